"""HTML of "About this model": figures, confusion matrix, data, what it is not for."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from typing import Any

from fer.errors import ModelError
from fer.manifest import Manifest
from fer.registry import Registry
from fer.web.texts import Texts

#: Figures that are shown, most telling first; each has a text `figure.<name>`.
FIGURES = ("ferplus_accuracy", "accuracy", "balanced_accuracy", "macro_f1", "ece", "n")

#: Where a manifest holds figures of several splits, the first of these is shown.
_SPLITS = ("test", "validation", "valid", "val")


def model_page(registry: Registry, version: str | None, texts: Texts) -> str:
    """The whole page about the version that serves, or about its absence."""
    if version is None:
        return f'<div class="fer-card">{_paragraph(texts("error.no_model"))}</div>'
    try:
        manifest = registry.manifest(version)
    except ModelError as error:
        return f'<div class="fer-card">{_paragraph(texts.error(error))}</div>'
    measured = measurements(manifest)
    parts = [
        f'<h2>{html.escape(title(manifest))}</h2><p class="fer-version">{html.escape(version)}</p>',
        _paragraph(texts("model.intro", labels=_labels(manifest, texts))),
        _figures(measured, texts),
        _confusion(measured, manifest, texts),
        _data(manifest, texts),
        f"<h3>{texts.html('model.not_for')}</h3><ul>"
        + "".join(f"<li>{texts.html(f'model.not_for{n}')}</li>" for n in range(1, 6))
        + "</ul>",
    ]
    return f'<div class="fer-model">{"".join(part for part in parts if part)}</div>'


def model_card(registry: Registry, version: str | None, language: str) -> str:
    """The card that was written with the version, as Markdown: in `language` if it has one.

    Empty where there is none.
    """
    if version is None:
        return ""
    names = ["card.md"] if language == "en" else [f"card.{language}.md", "card.md"]
    for name in names:
        try:
            return registry.verified_file(version, name).read_text(encoding="utf-8")
        except (ModelError, OSError, UnicodeDecodeError):
            continue
    return ""


def title(manifest: Manifest) -> str:
    """What a version is called."""
    return manifest.title or manifest.name


def choices(registry: Registry, champion: str | None, texts: Texts) -> list[tuple[str, str]]:
    """Versions to choose from with their best figure: (text, value), the current one first.

    The current one's value is empty, so that an open page follows a newly promoted model.
    """
    found: list[tuple[str, str]] = []
    for version in registry.versions():
        try:
            manifest = registry.manifest(version)
        except ModelError:
            continue
        figure = headline_figure(measurements(manifest), texts)
        name = f"{title(manifest)} ({version[:8]})" + (f", {figure}" if figure else "")
        if version == champion:
            found.insert(0, (texts("model.current", name=name), ""))
        else:
            found.append((name, version))
    return found


def headline_figure(measured: Mapping[str, Any], texts: Texts) -> str:
    """The most telling figure in words that say by what it is right; empty without one."""
    for name in FIGURES[:3]:
        value = measured.get(name)
        if isinstance(value, int | float):
            return texts(f"figure.short.{name}", share=texts.percent(float(value)))
    return ""


def measurements(manifest: Manifest) -> Mapping[str, Any]:
    """The figures of a manifest: its own, or those of the split that tells most."""
    for candidate in _candidates(manifest.metrics):
        if any(name in candidate for name in FIGURES[:3]):
            return candidate
    return {}


def _candidates(metrics: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield metrics
    for split in (*_SPLITS, *metrics):
        inner = metrics.get(split)
        if isinstance(inner, Mapping):
            yield inner


def _labels(manifest: Manifest, texts: Texts) -> str:
    return ", ".join(texts.label(label) for label in manifest.labels)


def _paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


def _figures(measured: Mapping[str, Any], texts: Texts) -> str:
    rows = []
    for name in FIGURES:
        value = measured.get(name)
        if not isinstance(value, int | float):
            continue
        shown = html.escape(_shown(name, float(value), texts)) + _interval(name, measured, texts)
        rows.append(
            f"<div><dt>{texts.html(f'figure.{name}')}</dt><dd>{shown}</dd>"
            f"<dd>{texts.html(f'figure.{name}.means')}</dd></div>"
        )
    if not rows:
        return _paragraph(texts("model.no_figures"))
    return f'<h3>{texts.html("model.figures")}</h3><dl class="fer-figures">{"".join(rows)}</dl>'


def _interval(name: str, measured: Mapping[str, Any], texts: Texts) -> str:
    """HTML of the 95 % interval of a figure; empty where none was measured."""
    bounds = measured.get(f"{name}_interval")
    if not isinstance(bounds, list | tuple) or len(bounds) != 2:
        return ""
    if not all(isinstance(bound, int | float) for bound in bounds):
        return ""
    low, high = (_shown(name, float(bound), texts) for bound in bounds)
    return f"<small>{texts.html('figure.interval', low=low, high=high)}</small>"


def _shown(name: str, value: float, texts: Texts) -> str:
    if name == "n":
        return f"{value:.0f}"
    if name.endswith("accuracy"):
        return f"{texts.number(100 * value, 1)} %"
    return texts.number(value)


def _confusion(measured: Mapping[str, Any], manifest: Manifest, texts: Texts) -> str:
    matrix = measured.get("confusion")
    names = measured.get("labels", manifest.labels)
    if not _is_square(matrix, len(names)):
        return ""
    head = "".join(f'<th scope="col">{html.escape(texts.label(str(n)))}</th>' for n in names)
    rows = []
    for name, counts in zip(names, matrix or [], strict=True):
        total = sum(counts) or 1
        cells = "".join(
            f'<td style="--share:{count / total:.3f}"{_strong(count / total)}>'
            f"{html.escape(texts.percent(count / total))}</td>"
            for count in counts
        )
        rows.append(f'<tr><th scope="row">{html.escape(texts.label(str(name)))}</th>{cells}</tr>')
    return (
        f"<h3>{texts.html('model.confusion')}</h3>"
        f'<p id="fer-confusion-means">{texts.html("model.confusion_means")}</p>'
        f'<div class="fer-scroll" tabindex="0" role="region" '
        f'aria-label="{texts.html("model.confusion")}"><table class="fer-confusion" '
        f'aria-describedby="fer-confusion-means">'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _strong(share: float) -> str:
    return ' class="fer-strong"' if share >= 0.8 else ""


def _is_square(matrix: object, size: int) -> bool:
    return (
        isinstance(matrix, list)
        and len(matrix) == size
        and all(
            isinstance(row, list)
            and len(row) == size
            and all(isinstance(count, int | float) and count >= 0 for count in row)
            for row in matrix
        )
    )


def _data(manifest: Manifest, texts: Texts) -> str:
    if not manifest.data:
        return ""
    items = []
    for source in manifest.data:
        extra = [source.terms]
        if source.pictures is not None:
            extra.append(texts("model.pictures", count=source.pictures))
        words = "; ".join(part for part in extra if part)
        items.append(
            f"<li><strong>{html.escape(source.name)}</strong>"
            + (f": {html.escape(words)}" if words else "")
            + "</li>"
        )
    return f"<h3>{texts.html('model.data')}</h3><ul>{''.join(items)}</ul>"
