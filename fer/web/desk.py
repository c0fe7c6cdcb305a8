"""What happens to a visitor's picture, without any page: read it, keep what may be kept."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from fer.collection.samples import NewSample, Receipt, SampleStore
from fer.config import Settings
from fer.errors import CollectionError, FerError, LabelError
from fer.vision.faces import kept_picture
from fer.vision.images import encode_jpeg
from fer.vision.recogniser import Reading, Recogniser, Recognition
from fer.web.logs import request_id
from fer.web.notice import notice_version

_LOG = logging.getLogger(__name__)

#: Pictures at hand for each one that is being read: the others wait for the disk, which syncs every
#: face that is kept, and a slow one must not keep the processors idle.
AT_HAND = 3

#: What `keep_faces` may be.
KEEP_FACES = ("largest", "all")


class Meter(Protocol):
    """Counts what the desk does."""

    def read(self, faces: int) -> None:
        """A picture was read."""

    def kept(self, faces: int) -> None:
        """Faces were kept."""

    def refused(self, kind: str) -> None:
        """A picture was not read, or what was read not kept, for an error of this code."""


class _Uncounted:
    """A meter that counts nothing."""

    def read(self, faces: int) -> None:
        """See `Meter`."""

    def kept(self, faces: int) -> None:
        """See `Meter`."""

    def refused(self, kind: str) -> None:
        """See `Meter`."""


@dataclass(frozen=True)
class Visitor:
    """Who sends a picture, as far as it matters.

    Attributes:
        session: what groups this visitor's pictures; never stored as it is.
        source: `page` or `api`.
    """

    session: str
    source: str


@dataclass(frozen=True, eq=False)
class Answer:
    """What was read in one picture, and what was kept of it.

    Attributes:
        recognition: the reading; faces are numbered from 0, largest first.
        abstain: confidence below which a face is "not sure".
        notice: version of the notice that was shown.
        receipt: for what was kept; None where nothing was.
        kept: sample id of each kept face, by its number.
        trouble: why nothing could be kept although it should have been.
        request: id of the request; the rows of what was kept have it too.
    """

    recognition: Recognition
    abstain: float
    notice: str
    receipt: str | None = None
    kept: dict[int, str] = field(default_factory=dict)
    trouble: FerError | None = None
    request: str = ""

    def to_json(self) -> dict[str, Any]:
        """The answer of the `/classify` endpoint."""
        document: dict[str, Any] = {
            "faces": [
                self._face(number, reading)
                for number, reading in enumerate(self.recognition.readings)
            ],
            "sample_ids": list(self.kept.values()),
            "receipt": self.receipt,
            "model": self.recognition.model_version,
            "notice_version": self.notice,
            "request_id": self.request,
        }
        if self.trouble is not None:
            document["warning"] = self.trouble.message
        return document

    def _face(self, number: int, reading: Reading) -> dict[str, Any]:
        box, prediction, quality = reading.box, reading.prediction, reading.quality
        return {
            "box": [box.left, box.top, box.width, box.height],
            "roll": box.roll,
            "label": prediction.label,
            "certain": prediction.certain(self.abstain),
            "confidence": prediction.confidence,
            "probabilities": prediction.by_label(),
            "quality": {
                "face_px": quality.face_px,
                "sharpness": quality.sharpness,
                "detector_score": quality.detector_score,
            },
            "sample_id": self.kept.get(number),
        }


@dataclass(frozen=True, eq=False)
class Kept:
    """Faces of one picture that may still be kept, or given up again.

    Attributes:
        samples: one for each face, in the answer's order; what `SampleStore.keep` takes.
        kept: sample ids of those that are kept, by number.
        receipt: for them.
    """

    samples: tuple[NewSample, ...]
    kept: dict[int, str]
    receipt: str | None


class Desk:
    """Reads pictures and keeps faces, for the page and for programs alike.

    `meter` is told what happens.
    """

    def __init__(self, settings: Settings, recogniser: Recogniser, store: SampleStore) -> None:
        self.meter: Meter = _Uncounted()
        self.settings = settings
        self.recogniser = recogniser
        self.store = store
        self._reading = threading.BoundedSemaphore(settings.threads)

    @property
    def collects(self) -> bool:
        """Whether anything may be kept at all."""
        return self.settings.effective_collect != "off"

    def classify(
        self,
        data: bytes,
        visitor: Visitor,
        *,
        keep: bool = False,
        model: str | None = None,
        keep_faces: str = "largest",
    ) -> Answer:
        """Read a picture and, if `keep`, keep its largest face or all of them.

        A disk or database that refuses does not take the reading away: `Answer.trouble` says why
        nothing was kept.

        Raises:
            PictureError, ModelError: as `Recogniser.recognise`.
            LabelError: `keep_faces` is none of `KEEP_FACES`.
        """
        answer, _ = self.read(data, visitor, keep=keep, model=model, keep_faces=keep_faces)
        return answer

    def read(
        self,
        data: bytes,
        visitor: Visitor,
        *,
        keep: bool,
        model: str | None = None,
        keep_faces: str = "largest",
    ) -> tuple[Answer, Kept | None]:
        """As `classify`; and the faces, for `choose`, where some are kept."""
        if keep_faces not in KEEP_FACES:
            raise KeepFacesError(
                f"keep_faces is {' or '.join(KEEP_FACES)}, not {keep_faces!r}.",
                choices=", ".join(KEEP_FACES),
            )
        try:
            with self._reading:
                recognition = self.recogniser.recognise(data, model or None)
        except FerError as error:
            self.meter.refused(error.code)
            raise
        self.meter.read(len(recognition.readings))
        request = request_id() or uuid.uuid4().hex
        notice = notice_version(self.settings)
        answer = Answer(recognition, self.settings.abstain, notice, request=request)
        if not (keep and self.collects):
            return answer, None
        faces = Kept(self._samples(recognition, visitor, request), {}, None)
        wanted = range(len(faces.samples)) if keep_faces == "all" else range(1)
        try:
            faces = self.choose(faces, wanted, visitor)
        except CollectionError as error:
            _LOG.warning("nothing kept: %s", error.message)
            self.meter.refused(error.code)
            return replace(answer, trouble=error), None
        return replace(answer, receipt=faces.receipt, kept=faces.kept), faces

    def choose(self, faces: Kept, wanted: Sequence[int], visitor: Visitor) -> Kept:
        """Keep exactly the `wanted` faces: what is kept anew gets a new receipt.

        The new ones are kept before the old ones are forgotten, so that a failure loses nothing.

        Raises:
            StorageError: nothing was changed.
        """
        numbers = sorted({n for n in wanted if 0 <= n < len(faces.samples)})
        if numbers == sorted(faces.kept):
            return faces
        receipt: Receipt | None = None
        if numbers:
            receipt = self.store.keep(
                [faces.samples[number] for number in numbers],
                group_id=self.store.group_id(visitor.session),
            )
            self.meter.kept(len(numbers))
            _LOG.info("%d of %d faces kept", len(numbers), len(faces.samples))
        if faces.receipt is not None:
            self.store.forget(faces.receipt)
        if receipt is None:
            return Kept(faces.samples, {}, None)
        kept = dict(zip(numbers, receipt.sample_ids, strict=True))
        return Kept(faces.samples, kept, receipt.code)

    def feedback(self, receipt: str, label: str, sample_id: str | None = None) -> None:
        """A visitor's opinion on a kept face.

        Raises:
            UnknownReceiptError, UnknownSampleError, LabelError: as `SampleStore.suggest`.
        """
        self.store.suggest(receipt.strip(), label.strip(), sample_id or None)

    def forget(self, receipt: str) -> int:
        """Delete what a receipt stands for; how many faces.

        Raises:
            UnknownReceiptError: nothing is kept under it.
        """
        return self.store.forget(receipt.strip())

    def _samples(
        self, recognition: Recognition, visitor: Visitor, request: str
    ) -> tuple[NewSample, ...]:
        return tuple(
            self._sample(recognition, reading, visitor, request) for reading in recognition.readings
        )

    def _sample(
        self, recognition: Recognition, reading: Reading, visitor: Visitor, request: str
    ) -> NewSample:
        picture, box = kept_picture(recognition.image, reading.box)
        height, width = picture.shape[:2]
        return NewSample(
            jpeg=encode_jpeg(picture, quality=95),
            face_box=box,
            width=width,
            height=height,
            model_version=recognition.model_version,
            predicted_label=reading.prediction.label,
            probabilities=reading.prediction.by_label(),
            face_px=reading.quality.face_px,
            sharpness=reading.quality.sharpness,
            source=visitor.source,
            notice_version=notice_version(self.settings),
            request_id=request,
        )


class KeepFacesError(LabelError):
    """`keep_faces` has a value that means nothing."""

    code = "keep_faces"


__all__ = ["KEEP_FACES", "Answer", "Desk", "KeepFacesError", "Kept", "Visitor"]
