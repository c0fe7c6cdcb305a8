"""HTML of an answer: the picture with its boxes, the readings, the receipt. All text escaped."""

from __future__ import annotations

import base64
import html

import cv2
import numpy as np

from fer.vision.faces import Quality
from fer.vision.images import Pixels, encode_jpeg
from fer.vision.recogniser import Reading, Recognition
from fer.web.desk import Answer, Kept
from fer.web.logs import error_sentence
from fer.web.texts import Texts

#: Longest side of the picture that is shown, in pixels.
SHOWN_SIDE = 1280

#: A face smaller than this, in pixels, deserves the tip to come closer.
SMALL_FACE_PX = 64

#: A crop whose Laplacian varies less than this is blurred.
BLURRED = 40.0

#: A crop darker than this, as mean of 0…255, deserves the tip about light.
DARK = 50.0


def picture(answer: Answer, texts: Texts) -> str:
    """The upright picture with a numbered box at each face, as one figure.

    The picture is in the page itself, as a `data:` URL: no file, nothing to fetch later.
    """
    image = answer.recognition.image
    height, width = image.shape[:2]
    several = len(answer.recognition.readings) > 1
    boxes = "".join(
        _box(number, reading, (width, height), several, answer.abstain, texts)
        for number, reading in enumerate(answer.recognition.readings, start=1)
    )
    url = "data:image/jpeg;base64," + base64.b64encode(_shown(image)).decode("ascii")
    alt = texts.html("result.picture_alt", count=len(answer.recognition.readings))
    return (
        f'<figure class="fer-picture"><div class="fer-frame" style="--ratio:{width}/{height}">'
        f'<img src="{url}" alt="{alt}" width="{width}" height="{height}">{boxes}</div></figure>'
    )


def readings(answer: Answer, texts: Texts) -> str:
    """Every face's reading, the largest face's open, and what became of saving."""
    recognition = answer.recognition
    several = len(recognition.readings) > 1
    parts = ['<div class="fer-readings" tabindex="-1">']
    if several:
        count = texts.html("result.faces", count=len(recognition.readings))
        parts.append(f'<p class="fer-count">{count}</p>')
    for number, reading in enumerate(recognition.readings, start=1):
        body = _reading(reading, recognition, answer.abstain, texts)
        if not several:
            parts.append(
                f'<article class="fer-face">{_headline(reading, answer, texts)}{body}</article>'
            )
            continue
        label = _verdict(reading, answer.abstain, texts)
        opened = " open" if number == 1 else ""
        parts.append(
            f'<details class="fer-face"{opened}><summary><span class="fer-number">{number}</span>'
            f"<span>{label}</span></summary>{body}</details>"
        )
    tip = quality_tip(recognition, texts)
    if tip:
        parts.append(f'<p class="fer-tip">{html.escape(tip)}</p>')
    if answer.trouble is not None:
        why = error_sentence(answer.trouble, texts)
        parts.append(message(texts("result.not_saved", why=why), "warning"))
    parts.append(f'<p class="fer-guess">{texts.html("result.guess")}</p></div>')
    return "".join(parts)


def receipt(kept: Kept, texts: Texts) -> str:
    """The receipt: its code with a copy button, the delete link, and the wish to remember it."""
    code = html.escape(kept.receipt or "")
    count = len(kept.kept)
    return (
        f'<section class="fer-receipt" aria-labelledby="fer-receipt-title" data-receipt="{code}">'
        f'<h3 id="fer-receipt-title">{texts.html("receipt.title", count=count)}</h3>'
        f"<p>{texts.html('receipt.text')}</p>"
        f'<div class="fer-code"><code>{code}</code>'
        f'<button type="button" data-fer="copy" data-code="{code}">'
        f"{texts.html('receipt.copy')}</button></div>"
        f'<p class="fer-links"><a href="#delete={code}">{texts.html("receipt.link")}</a></p>'
        f'<label class="fer-remember"><input type="checkbox" data-fer="remember" '
        f'data-code="{code}"> {texts.html("receipt.remember")}</label></section>'
    )


def forgotten(code: str, count: int, texts: Texts) -> str:
    """Says that it is done, and tells the page's script which receipt to drop from its list."""
    return f'<div data-forgotten="{html.escape(code)}">' + (
        message(texts("delete.done", count=count), "done") + "</div>"
    )


def empty(texts: Texts) -> str:
    """What stands where the result will be."""
    steps = "".join(f"<li>{texts.html(f'empty.step{n}')}</li>" for n in (1, 2, 3))
    return (
        '<div class="fer-empty"><svg viewBox="0 0 64 64" aria-hidden="true">'
        '<rect x="8" y="8" width="48" height="48" rx="12"/><circle cx="25" cy="28" r="2.6"/>'
        '<circle cx="39" cy="28" r="2.6"/><path d="M23 39c5 5 13 5 18 0"/></svg>'
        f"<h2>{texts.html('empty.title')}</h2><ol>{steps}</ol></div>"
    )


def message(text: str, kind: str) -> str:
    """A sentence in a box; `kind` is error, warning or done. Errors are read out at once."""
    role = "alert" if kind == "error" else "status"
    return f'<p class="fer-message fer-{kind}" role="{role}">{html.escape(text)}</p>'


def quality_tip(recognition: Recognition, texts: Texts) -> str | None:
    """The one tip that helps the largest face most, if its quality is poor."""
    reading = recognition.readings[0]
    if reading.quality.face_px < SMALL_FACE_PX:
        return texts("tip.closer")
    if _brightness(recognition.image, reading) < DARK:
        return texts("tip.light")
    if abs(reading.box.roll) > 35 or poor(reading.quality):
        return texts("tip.face_camera")
    if reading.quality.sharpness < BLURRED:
        return texts("tip.steady")
    return None


def poor(quality: Quality) -> bool:
    """Whether the detector itself was in doubt."""
    return quality.detector_score < 0.6


def _brightness(image: Pixels, reading: Reading) -> float:
    box = reading.box
    height, width = image.shape[:2]
    top, bottom = max(0, int(box.top)), min(height, int(box.top + box.height) + 1)
    left, right = max(0, int(box.left)), min(width, int(box.left + box.width) + 1)
    part = image[top:bottom, left:right]
    return float(part.mean()) if part.size else 255.0


def _shown(image: Pixels) -> bytes:
    height, width = image.shape[:2]
    factor = min(1.0, SHOWN_SIDE / max(height, width))
    if factor < 1.0:
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        image = np.ascontiguousarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    return encode_jpeg(image, quality=85)


def _box(
    number: int,
    reading: Reading,
    size: tuple[int, int],
    several: bool,
    abstain: float,
    texts: Texts,
) -> str:
    box = reading.box
    width, height = size
    label = html.escape(_verdict_text(reading, abstain, texts))
    tag = f"{number} · {label}" if several else label
    left, top = 100 * box.left / width, 100 * box.top / height
    # A tag above the picture's edge, or beyond its right one, would be cut off.
    inside = " fer-tag-inside" if top < 9 else ""
    flipped = " fer-tag-left" if left > 65 else ""
    return (
        f'<div class="fer-box" style="left:{left:.3f}%;top:{top:.3f}%;'
        f"width:{100 * box.width / width:.3f}%;height:{100 * box.height / height:.3f}%;"
        f'--roll:{box.roll:.1f}deg"><span class="fer-tag{inside}{flipped}">{tag}</span></div>'
    )


def _verdict_text(reading: Reading, abstain: float, texts: Texts) -> str:
    if not reading.prediction.certain(abstain):
        return texts("result.not_sure")
    return f"{texts.label(reading.prediction.label)} {texts.percent(reading.prediction.confidence)}"


def _verdict(reading: Reading, abstain: float, texts: Texts) -> str:
    return f"<strong>{html.escape(_verdict_text(reading, abstain, texts))}</strong>"


def _headline(reading: Reading, answer: Answer, texts: Texts) -> str:
    prediction = reading.prediction
    if not prediction.certain(answer.abstain):
        return f'<h2 class="fer-verdict">{texts.html("result.not_sure")}</h2>'
    label = html.escape(texts.label(prediction.label))
    share = html.escape(texts.percent(prediction.confidence))
    return f'<h2 class="fer-verdict">{label} <span>{share}</span></h2>'


def _reading(reading: Reading, recognition: Recognition, abstain: float, texts: Texts) -> str:
    ranked = reading.prediction.ranked()
    named = [
        texts("result.guess_item", label=texts.label(label), share=texts.percent(share))
        for label, share in ranked[:3]
    ]
    key = "result.top_three" if reading.prediction.certain(abstain) else "result.best_guesses"
    rows = "".join(_bar(label, share, texts) for label, share in ranked)
    quality = texts(
        "result.quality",
        px=reading.quality.face_px,
        sharpness=round(reading.quality.sharpness),
        score=texts.percent(reading.quality.detector_score),
    )
    return (
        f'<p class="fer-top">{texts.html(key, guesses=", ".join(named))}</p>'
        f'<ul class="fer-bars" aria-label="{texts.html("result.bars")}">{rows}</ul>'
        f'<details class="fer-quality"><summary>{texts.html("result.details")}</summary>'
        f"<p>{html.escape(quality)}<br>"
        f"{texts.html('result.model', model=recognition.model_version)}</p></details>"
    )


def _bar(label: str, share: float, texts: Texts) -> str:
    return (
        f'<li><span class="fer-bar-name">{html.escape(texts.label(label))}</span>'
        f'<span class="fer-bar" aria-hidden="true"><i style="width:{100 * share:.2f}%"></i></span>'
        f'<span class="fer-bar-share">{html.escape(texts.percent(share))}</span></li>'
    )
