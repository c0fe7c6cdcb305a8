"""What reports say, in English and Bahasa Indonesia."""

from __future__ import annotations

import os
from collections.abc import Mapping

from fer.errors import ConfigError

_ENGLISH = {
    "label": "label",
    "all": "all",
    "pictures": "pictures",
    "truth": "truth",
    "answer": "answer",
    "epoch": "epoch",
    "no_split": "no split",
    "train": "train",
    "validation": "validation",
    "test": "test",
    # fer compare
    "compare.title": "Models compared on {data}",
    "compare.on": "{n} pictures of the {split} split of {data}, the same for every model; labels: "
    "{labels}. Measured with the LiteRT file that serves, on {machine}.",
    "compare.validation": "There is no test split: these pictures chose the epochs, so the "
    "figures flatter the models trained here.",
    "compare.seen": "A version that was trained elsewhere may have seen some of these pictures.",
    "compare.table": "Figures",
    "compare.intervals": "How sure the figures are",
    "compare.intervals_text": "95 % intervals: Wilson's for accuracy, by resampling the pictures "
    "for the others. A macro figure is the mean over the labels present.",
    "compare.paired": "Against the best",
    "compare.paired_text": "Best by accuracy: {best}. Each other model is compared with it picture "
    "by picture: pictures that only one of the two names rightly, the difference in accuracy with "
    "its 95 % interval, and McNemar's exact test, two-sided, with Holm's correction (compared with "
    "the best: {count}). The best was chosen on the same pictures, so the differences lean in its "
    "favour.",
    "compare.confusion": "Confusion",
    "compare.confusion_alt": "Confusion matrices side by side; rows are the truth, columns the "
    "answers.",
    "compare.curves": "Curves",
    "compare.curves_alt": "Loss and validation accuracy of each model over the epochs.",
    "compare.intervals_alt": "Accuracy, macro precision, recall and F1 with 95 % intervals.",
    "compare.recipe": "Settings",
    "compare.model": "model",
    "compare.accuracy": "accuracy",
    "compare.votes": "accuracy against the votes",
    "compare.precision": "macro precision",
    "compare.recall": "macro recall",
    "compare.f1": "macro F1",
    "compare.parameters": "parameters",
    "compare.size": "size, MB",
    "compare.time": "ms a face",
    "compare.training": "training",
    "compare.unknown": "unknown",
    "compare.minutes": "{minutes} min",
    "compare.only_best": "only the best right",
    "compare.only_this": "only this right",
    "compare.difference": "difference",
    "compare.p": "p, corrected",
    "compare.loss": "training loss",
    "compare.validation_accuracy": "validation accuracy",
    # fer explore
    "explore.title": "What is in {data}",
    "explore.lead": "{n} pictures with {k} labels; {unreadable} cannot be read, {skipped} files "
    "are no labelled pictures.",
    "explore.counts": "Counts",
    "explore.counts_alt": "Pictures of each label and split as bars.",
    "explore.balance": "The most frequent label, {most}, has {ratio} times the pictures of the "
    "rarest, {least}.",
    "explore.samples": "Samples",
    "explore.samples_alt": "Some pictures of each label, drawn at random.",
    "explore.sizes": "Sizes and modes",
    "explore.side": "Shortest side: {low} to {high} px, half of them at most {middle} px.",
    "explore.size": "size, px",
    "explore.mode": "mode",
    "explore.format": "format",
    "explore.brightness": "Brightness",
    "explore.brightness_alt": "Distribution of the mean brightness of the pictures of each label.",
    "explore.mean_brightness": "mean brightness (0 to 255)",
    "explore.spread": "standard deviation",
    "explore.flat": "Nearly of one tone, so hardly a face: {n}.",
    "explore.mean_faces": "Mean face",
    "explore.mean_faces_alt": "The mean of all pictures of each label.",
    "explore.exact": "Exact copies",
    "explore.exact_text": "{pixels} groups of pictures with the same pixels, {pictures} pictures "
    "in all; {bytes} groups have the same bytes. {labels} groups hold different labels.",
    "explore.near": "Near duplicates",
    "explore.near_text": "{groups} groups of pictures that are nearly the same, {pictures} "
    "pictures in all: perceptual hashes that differ in at most {bits} of 64 bits, and thumbnails "
    "that correlate by {correlation} or more. {labels} groups hold different labels.",
    "explore.within": "Groups within one split: {n}. Groups across splits: {across}.",
    "explore.leak": "{n} pictures of {later} have a copy in {earlier}: a model trained on "
    "{earlier} has seen them.",
    "explore.near_leak": "{n} pictures of {later} have a near duplicate in {earlier}.",
    "explore.no_leak": "None lies across splits.",
    "explore.no_splits": "The data has no splits that could leak.",
    "explore.pairs_alt": "Some of the near duplicates across splits, or else within one.",
    "explore.examples": "Some of them:",
    "explore.unreadable": "Cannot be read",
    "explore.none": "None.",
    "explore.more": "… and {n} more; report.json names them all.",
    "explore.votes": "Disagreement with the votes",
    "explore.votes_text": "{n} of {all} pictures have a most-voted label among the model's; of "
    "these the label agrees with the votes on {share}.",
    "explore.counted": "counted",
    "explore.agree": "agree",
    "explore.instead": "voted instead",
    # fer evaluate
    "evaluate.title": "Evaluated on {data}",
    "evaluate.lead": "Version {model} on {n} pictures, by the LiteRT file that serves.",
    "evaluate.missed": "In {n} of them no face was found: they count as errors.",
    "evaluate.figure": "figure",
    "evaluate.interval": "95 % interval",
    "evaluate.ferplus_accuracy": "accuracy against the votes",
    "evaluate.accuracy": "accuracy",
    "evaluate.balanced_accuracy": "balanced accuracy",
    "evaluate.macro_f1": "macro F1",
    "evaluate.ece": "expected calibration error",
    "evaluate.precision": "precision",
    "evaluate.recall": "recall",
    "evaluate.f1": "F1",
    "evaluate.by_label": "By label",
    "evaluate.confusion_alt": "Confusion matrix; rows are the truth, columns the answers.",
    "evaluate.reliability": "Reliability",
    "evaluate.reliability_text": "Of the answers given with a confidence of 80 %, 80 % should be "
    "right. Above the diagonal the model is too modest, below it too sure.",
    "evaluate.reliability_alt": "Accuracy against confidence, and how many faces fall where.",
    "evaluate.bin": "confidence from – to",
    "evaluate.n": "faces",
    "evaluate.confidence": "mean confidence",
    "evaluate.right": "right",
    "evaluate.mistakes": "The most confident mistakes",
    "evaluate.mistakes_text": "Truth, in brackets what the votes say otherwise, and the three "
    "likeliest answers. Some are the label's mistakes, not the model's.",
    "evaluate.mistakes_alt": "Faces whose wrong answer was given with the highest confidence.",
    "evaluate.sample": "A random sample",
    "evaluate.sample_text": "Drawn with seed {seed} from all faces; wrong answers are in red.",
    "evaluate.sample_alt": "Faces drawn at random, with truth and the three likeliest answers.",
    "evaluate.slice": "slice",
    "evaluate.group": "group",
    "evaluate.brightness": "By brightness",
    "evaluate.brightness_text": "Mean of the grey crop, 0 to 255, in quarters of the faces.",
    "evaluate.sharpness": "By sharpness",
    "evaluate.sharpness_text": "Variance of the Laplacian of the crop: a blurred face has a low "
    "one. Quarters of the faces.",
    "evaluate.size": "By size",
    "evaluate.size_text": "Longer side of the face in the picture, or, where pictures were taken "
    "as faces, their shorter side; in pixels, quarters of the faces.",
    "evaluate.roll": "By roll",
    "evaluate.roll_text": "How far the head leans to either side, in degrees.",
    "evaluate.groups_text": "The file of groups says nothing about {unnamed} of the pictures. "
    "Small groups have wide intervals: where two overlap, the data show no difference. Wilson's "
    "intervals for accuracy, by resampling for balanced accuracy.",
    "evaluate.private": "This folder shows faces of the data: keep it to yourself.",
}

_INDONESIAN = {
    "label": "label",
    "all": "semua",
    "pictures": "gambar",
    "truth": "sebenarnya",
    "answer": "jawaban",
    "epoch": "epoch",
    "no_split": "tanpa pembagian",
    "train": "latih",
    "validation": "validasi",
    "test": "uji",
    "compare.title": "Perbandingan model pada {data}",
    "compare.on": "{n} gambar dari bagian {split} {data}, sama untuk semua model; label: {labels}. "
    "Diukur dengan berkas LiteRT yang melayani, pada {machine}.",
    "compare.validation": "Tidak ada bagian uji: gambar ini ikut memilih epoch, jadi angkanya "
    "terlalu baik untuk model yang dilatih di sini.",
    "compare.seen": "Versi yang dilatih di tempat lain mungkin pernah melihat sebagian gambar ini.",
    "compare.table": "Angka",
    "compare.intervals": "Seberapa pasti angkanya",
    "compare.intervals_text": "Selang 95 %: Wilson untuk akurasi, penarikan ulang gambar untuk "
    "yang lain. Angka makro adalah rata-rata atas label yang ada.",
    "compare.paired": "Terhadap yang terbaik",
    "compare.paired_text": "Terbaik menurut akurasi: {best}. Setiap model lain dibandingkan "
    "dengannya gambar demi gambar: gambar yang hanya dijawab benar oleh salah satu, selisih "
    "akurasi dengan selang 95 %, dan uji eksak McNemar dua sisi dengan koreksi Holm (dibandingkan "
    "dengan yang terbaik: {count}). Yang terbaik dipilih pada gambar yang sama, jadi selisihnya "
    "condong kepadanya.",
    "compare.confusion": "Kekeliruan",
    "compare.confusion_alt": "Matriks kekeliruan berdampingan; baris adalah yang sebenarnya, "
    "kolom jawabannya.",
    "compare.curves": "Kurva",
    "compare.curves_alt": "Loss dan akurasi validasi setiap model sepanjang epoch.",
    "compare.intervals_alt": "Akurasi, presisi, recall, dan F1 makro dengan selang 95 %.",
    "compare.recipe": "Pengaturan",
    "compare.model": "model",
    "compare.accuracy": "akurasi",
    "compare.votes": "akurasi terhadap suara",
    "compare.precision": "presisi makro",
    "compare.recall": "recall makro",
    "compare.f1": "F1 makro",
    "compare.parameters": "parameter",
    "compare.size": "ukuran, MB",
    "compare.time": "ms per wajah",
    "compare.training": "pelatihan",
    "compare.unknown": "tidak diketahui",
    "compare.minutes": "{minutes} mnt",
    "compare.only_best": "hanya yang terbaik benar",
    "compare.only_this": "hanya ini benar",
    "compare.difference": "selisih",
    "compare.p": "p, terkoreksi",
    "compare.loss": "loss pelatihan",
    "compare.validation_accuracy": "akurasi validasi",
    "explore.title": "Isi {data}",
    "explore.lead": "{n} gambar dengan {k} label; {unreadable} tidak dapat dibaca, {skipped} "
    "berkas bukan gambar berlabel.",
    "explore.counts": "Jumlah",
    "explore.counts_alt": "Gambar setiap label dan bagian sebagai batang.",
    "explore.balance": "Label tersering, {most}, punya {ratio} kali gambar label terjarang, "
    "{least}.",
    "explore.samples": "Contoh",
    "explore.samples_alt": "Beberapa gambar setiap label, dipilih acak.",
    "explore.sizes": "Ukuran dan mode",
    "explore.side": "Sisi terpendek: {low} sampai {high} px, separuhnya paling besar {middle} px.",
    "explore.size": "ukuran, px",
    "explore.mode": "mode",
    "explore.format": "format",
    "explore.brightness": "Kecerahan",
    "explore.brightness_alt": "Sebaran kecerahan rata-rata gambar setiap label.",
    "explore.mean_brightness": "kecerahan rata-rata (0 sampai 255)",
    "explore.spread": "simpangan baku",
    "explore.flat": "Hampir satu warna, jadi hampir bukan wajah: {n}.",
    "explore.mean_faces": "Wajah rata-rata",
    "explore.mean_faces_alt": "Rata-rata semua gambar setiap label.",
    "explore.exact": "Salinan persis",
    "explore.exact_text": "{pixels} kelompok gambar dengan piksel yang sama, {pictures} gambar "
    "seluruhnya; {bytes} kelompok punya byte yang sama. {labels} kelompok berisi label berbeda.",
    "explore.near": "Hampir sama",
    "explore.near_text": "{groups} kelompok gambar yang hampir sama, {pictures} gambar "
    "seluruhnya: hash perseptual berbeda paling banyak {bits} dari 64 bit, dan korelasi gambar "
    "kecilnya {correlation} atau lebih. {labels} kelompok berisi label berbeda.",
    "explore.within": "Kelompok dalam satu bagian: {n}. Kelompok antarbagian: {across}.",
    "explore.leak": "{n} gambar {later} punya salinan di {earlier}: model yang dilatih pada "
    "{earlier} sudah melihatnya.",
    "explore.near_leak": "{n} gambar {later} hampir sama dengan gambar di {earlier}.",
    "explore.no_leak": "Tidak ada yang antarbagian.",
    "explore.no_splits": "Data ini tidak punya bagian yang dapat bocor.",
    "explore.pairs_alt": "Beberapa pasangan hampir sama antarbagian, atau dalam satu bagian.",
    "explore.examples": "Beberapa di antaranya:",
    "explore.unreadable": "Tidak dapat dibaca",
    "explore.none": "Tidak ada.",
    "explore.more": "… dan {n} lagi; report.json menyebut semuanya.",
    "explore.votes": "Beda dengan suara",
    "explore.votes_text": "{n} dari {all} gambar punya label dengan suara terbanyak di antara "
    "label model; labelnya sesuai suara pada {share} di antaranya.",
    "explore.counted": "dihitung",
    "explore.agree": "sesuai",
    "explore.instead": "suara lain",
    # fer evaluate
    "evaluate.title": "Dievaluasi pada {data}",
    "evaluate.lead": "Versi {model} pada {n} gambar, dengan berkas LiteRT yang melayani.",
    "evaluate.missed": "Pada {n} di antaranya tidak ditemukan wajah: dihitung sebagai kesalahan.",
    "evaluate.figure": "angka",
    "evaluate.interval": "interval 95 %",
    "evaluate.ferplus_accuracy": "akurasi terhadap suara",
    "evaluate.accuracy": "akurasi",
    "evaluate.balanced_accuracy": "akurasi seimbang",
    "evaluate.macro_f1": "F1 makro",
    "evaluate.ece": "galat kalibrasi harapan",
    "evaluate.precision": "presisi",
    "evaluate.recall": "recall",
    "evaluate.f1": "F1",
    "evaluate.by_label": "Per label",
    "evaluate.confusion_alt": "Matriks kebingungan; baris adalah yang sebenarnya, kolom jawaban.",
    "evaluate.reliability": "Keandalan",
    "evaluate.reliability_text": "Dari jawaban dengan keyakinan 80 %, seharusnya 80 % benar. Di "
    "atas diagonal model terlalu rendah hati, di bawahnya terlalu yakin.",
    "evaluate.reliability_alt": "Akurasi terhadap keyakinan, dan banyaknya wajah di tiap bagian.",
    "evaluate.bin": "keyakinan dari – sampai",
    "evaluate.n": "wajah",
    "evaluate.confidence": "keyakinan rata-rata",
    "evaluate.right": "benar",
    "evaluate.mistakes": "Kesalahan yang paling yakin",
    "evaluate.mistakes_text": "Yang sebenarnya, dalam kurung kata suara bila berbeda, dan tiga "
    "jawaban termungkin. Sebagian adalah kesalahan label, bukan model.",
    "evaluate.mistakes_alt": "Wajah yang jawaban salahnya diberikan dengan keyakinan tertinggi.",
    "evaluate.sample": "Sampel acak",
    "evaluate.sample_text": "Diambil dengan benih {seed} dari semua wajah; yang salah berwarna "
    "merah.",
    "evaluate.sample_alt": "Wajah yang diambil acak, dengan yang sebenarnya dan tiga jawaban "
    "termungkin.",
    "evaluate.slice": "irisan",
    "evaluate.group": "kelompok",
    "evaluate.brightness": "Menurut kecerahan",
    "evaluate.brightness_text": "Rata-rata potongan abu-abu, 0 sampai 255, dalam seperempat wajah.",
    "evaluate.sharpness": "Menurut ketajaman",
    "evaluate.sharpness_text": "Ragam Laplace dari potongan: wajah yang kabur bernilai rendah. "
    "Dalam seperempat wajah.",
    "evaluate.size": "Menurut ukuran",
    "evaluate.size_text": "Sisi terpanjang wajah dalam gambar, atau, bila gambar dianggap wajah, "
    "sisi terpendeknya; dalam piksel, seperempat wajah.",
    "evaluate.roll": "Menurut kemiringan",
    "evaluate.roll_text": "Seberapa miring kepala ke salah satu sisi, dalam derajat.",
    "evaluate.groups_text": "Berkas kelompok tidak menyebut {unnamed} gambar. Kelompok kecil "
    "berinterval lebar: bila dua interval bertumpang tindih, data tidak menunjukkan perbedaan. "
    "Interval Wilson untuk akurasi, pengambilan ulang untuk akurasi seimbang.",
    "evaluate.private": "Folder ini memperlihatkan wajah dari data: simpan untuk diri sendiri.",
}

TEXTS: Mapping[str, Mapping[str, str]] = {"en": _ENGLISH, "id": _INDONESIAN}

#: Labels that many data sets share; any other is shown as it is. The page's words are the same.
_LABELS_INDONESIAN = {
    "angry": "marah",
    "disgust": "jijik",
    "fear": "takut",
    "happy": "senang",
    "neutral": "netral",
    "sad": "sedih",
    "surprise": "terkejut",
    "contempt": "menghina",
}


class ReportTexts:
    """The texts of one language.

    Raises:
        ConfigError: there is no such language.
    """

    def __init__(self, language: str | None = None) -> None:
        self.language = language or language_of_environment()
        if self.language not in TEXTS:
            raise ConfigError(f"--lang is {' or '.join(TEXTS)}, not {self.language!r}.")

    def __call__(self, key: str, **values: object) -> str:
        """The text of `key` with `values` filled in."""
        return TEXTS[self.language][key].format(**values)

    def label(self, name: str) -> str:
        """A label in this language, or as it is where it has no translation."""
        if self.language == "id":
            return _LABELS_INDONESIAN.get(name.casefold(), name)
        return name

    def split(self, name: str | None) -> str:
        """A split's name in this language."""
        return self("no_split") if name is None else self(name)

    def number(self, value: float, digits: int = 3) -> str:
        """A number with the language's separators."""
        text = f"{value:,.{digits}f}"
        return text.translate(str.maketrans(",.", ".,")) if self.language == "id" else text

    def share(self, value: float) -> str:
        """A share of one as a percentage."""
        return f"{self.number(100 * value, 1)} %"

    def interval(self, low: float, high: float) -> str:
        """An interval of shares, to three digits."""
        return f"{self.number(low)} … {self.number(high)}"


def language_of_environment() -> str:
    """`id` where the shell speaks Indonesian, else `en`."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := os.environ.get(name):
            return "id" if value.casefold().startswith("id") else "en"
    return "en"
