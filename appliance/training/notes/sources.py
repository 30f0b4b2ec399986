"""Where names, places and carrier prose come from: the data folder, Faker's word lists, and lists written here.

Owns: reading them and dropping every word of the held-back fifth. Does not own how names are written in a note
(`people`) nor how carriers are cleaned (`carriers`).

    sources = Sources.load(Path("data"))      # everything
    sources = Sources.tiny()                  # no folder needed; for tests
"""

from __future__ import annotations

import csv
import importlib
import json
import random
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from appliance.training.notes import prose, word_lists
from appliance.training.notes.invented_names import invented
from appliance.training.partition import partition

INVENTED_SHARE = 0.3
INVENTED_NAMES = 300  # of each origin, given and family
INVENTED_SEED = 20261126
_LATIN = re.compile(r"[A-Za-zÀ-ɏḀ-ỿ][A-Za-zÀ-ɏḀ-ỿ'’ -]*")
_LOCALES = (
    "en_US en_GB en_IE en_IN en_NG en_KE en_PK en_TH en_NZ es_MX es_ES es_CO es_AR es_CL fr_FR fr_CA de_DE de_AT "
    "it_IT pl_PL nl_NL nl_BE sv_SE no_NO da_DK fi_FI is_IS cs_CZ sk_SK hu_HU ro_RO hr_HR sl_SI lt_LT lv_LV et_EE "
    "tr_TR az_AZ uz_UZ pt_BR pt_PT vi_VN id_ID yo_NG ig_NG ha_NG zu_ZA tw_GH sw ga_IE zh_CN zh_TW ja_JP"
).split()


@dataclass(frozen=True, slots=True)
class Origin:
    """Given and family names of one origin: those that people bear, and invented ones in their manner."""

    given: tuple[str, ...]
    family: tuple[str, ...]
    invented_given: tuple[str, ...] = ()
    invented_family: tuple[str, ...] = ()

    def draw_given(self, rng: random.Random) -> str:
        """A given name; `INVENTED_SHARE` of them nobody bears."""
        return rng.choice(self.invented_given if self.invented_given and rng.random() < INVENTED_SHARE else self.given)

    def draw_family(self, rng: random.Random) -> str:
        """A family name, likewise."""
        return rng.choice(
            self.invented_family if self.invented_family and rng.random() < INVENTED_SHARE else self.family
        )

    def with_invented(self, rng: random.Random) -> Origin:
        """The same with `INVENTED_NAMES` names made up of each kind, all of the training side."""
        given = invented(self.given, INVENTED_NAMES, rng, training_side)
        family = invented(self.family, INVENTED_NAMES, rng, training_side)
        return Origin(self.given, self.family, given, family)


@dataclass(frozen=True, slots=True)
class Sources:
    """What notes are made of. All names, places and carriers are of the training side of the partition."""

    origins: Mapping[str, Origin]
    places: tuple[str, ...]
    carriers: tuple[str, ...]
    clean_sentences: tuple[str, ...]
    negatives: tuple[str, ...]
    queries: tuple[str, ...]

    @classmethod
    def load(cls, data: Path) -> Sources:
        """Everything, from the data folder and Faker. Takes a few seconds."""
        origins = dict(_own_origins()) | dict(_faker_origins()) | _listed_origins(data / "name_lists")
        made_up = random.Random(INVENTED_SEED)  # noqa: S311 — the same names in every run, nothing secret
        origins = {key: origins[key].with_invented(made_up) for key in sorted(origins)}
        every_name = {word.casefold() for origin in origins.values() for word in (*origin.given, *origin.family)}
        places = _kept([*_read_lines(data / "name_lists" / "places.txt"), *word_lists.place_words()["big city"]])
        place_words = {word.casefold() for place in places for word in place.split()}
        papers = _papers(data)
        notes = _carrier_notes(data / "clinical_note_carriers")
        known = prose.Lexicon.build([*papers, *notes], every_name | place_words)
        negatives = [s for text in papers for s in prose.clean_sentences(text, known)]
        queries = [q for q in _queries(data) if prose.clean_query(q, known)]
        carriers = [c for note in notes if (c := prose.clean_carrier(note, known))]
        return cls(origins, places, tuple(carriers), _slotless(carriers), tuple(negatives), tuple(queries))

    @classmethod
    def tiny(cls) -> Sources:
        """The lists written here alone and a few sentences: enough to make every kind of note."""
        return cls(
            origins=dict(_own_origins()),
            places=_kept(word_lists.place_words()["big city"]),
            carriers=_TINY_CARRIERS,
            clean_sentences=_slotless(_TINY_CARRIERS),
            negatives=_TINY_NEGATIVES,
            queries=("how do i raise my card limit", "what does a pending transfer mean"),
        )


_TINY_CARRIERS = (
    "CHIEF COMPLAINT\n\nKnee pain.\n\nHISTORY OF PRESENT ILLNESS\n\n{patient} is a 53-year-old female who presents "
    "with right knee pain. She used ice and an ACE wrap.\n\nPLAN\n\nI have prescribed meloxicam 15 mg once a day.",
    "{title_patient} is followed by Dr. {doctor}. He has had no fever or chills.",
)
_TINY_NEGATIVES = (
    "In total 93 patients were randomised, of whom 47 received the active drug.",
    "Blood pressure was lower in the treated group (120/80 versus 131/86 mm Hg).",
)


def training_side(name: str) -> bool:
    """Whether a name or place, every word of it, with and without its accents, may be used for training."""
    forms = {name, plain(name)}
    words = {part for form in forms for part in re.split(r"[\W\d_]+", form) if len(part) > 1}
    return all(partition(word) == "train" for word in forms | words)


def plain(text: str) -> str:
    """Without accents, as most American systems store it."""
    text = (
        text.replace("đ", "d").replace("Đ", "D").replace("ł", "l").replace("Ł", "L").replace("ø", "o").replace("ı", "i")
    )
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def _kept(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in names if training_side(name)))


def _slotless(carriers: Iterable[str]) -> tuple[str, ...]:
    """The sentences of carriers that mention nobody: what identified sentences stand among."""
    found = (s.strip() for note in carriers for line in note.split("\n") for s in prose.sentences(line))
    return tuple(s for s in found if len(s) > 20 and s[-1] in ".?!" and "{" not in s)


@lru_cache(maxsize=1)
def _own_origins() -> Mapping[str, Origin]:
    names = word_lists.romanised_names()
    origins = sorted({key.rsplit(" ", 1)[0] for key in names})
    return {key: Origin(_kept(names[f"{key} first"]), _kept(names[f"{key} last"])) for key in origins}


def _faker_origins() -> Mapping[str, Origin]:
    origins: dict[str, Origin] = {}
    for locale in _LOCALES:
        provider = importlib.import_module(f"faker.providers.person.{locale}").Provider
        given = _latin_names(provider, "first_romanized_names", "first_names", "first_names_female", "first_names_male")
        family = _latin_names(provider, "last_romanized_names", "last_names", "last_names_female", "last_names_male")
        if locale == "vi_VN":  # its given names are English placeholders
            given = _own_origins()["vietnamese"].given
        if len(given) >= 10 and len(family) >= 10:
            origins[locale] = Origin(given, family)
    return origins


def _latin_names(provider: type, *attributes: str) -> tuple[str, ...]:
    lists = (getattr(provider, attribute, ()) for attribute in attributes)
    names = [name for listed in lists if isinstance(listed, Iterable) for name in listed]
    return _kept(name for name in names if _LATIN.fullmatch(name))


def _listed_origins(folder: Path) -> dict[str, Origin]:
    given = _kept([*_read_lines(folder / "first-names.txt"), *_read_lines(folder / "middle-names.txt")])
    return {"listed": Origin(given, _kept(_read_lines(folder / "names.txt")))}


def _read_lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _carrier_notes(folder: Path) -> list[str]:
    notes = [
        prose.mark_patient(row["note"], people.get("patient_firstname", ""), people.get("patient_familyname", ""))
        for row, people in zip(
            _read_csv(folder / "aci_train.csv"), _read_csv(folder / "aci_train_metadata.csv"), strict=True
        )
        if partition(row["encounter_id"]) == "train"
    ]
    for name in ("mts_dialog_train.csv", "mts_dialog_valid.csv"):
        notes += [
            row["section_text"]
            for row in _read_csv(folder / name)
            if partition(row["ID"]) == "train" and len(row["section_text"]) > 25
        ]
    return notes


def _papers(data: Path) -> list[str]:
    """Abstracts and NER corpora: prose of every specialty without patients in it. One text a paper or sentence."""
    texts: list[str] = []
    for line in (data / "rct_abstracts" / "train.jsonl").read_text(encoding="utf-8").splitlines():
        texts += [sentence for section in json.loads(line)["sections"] for sentence in section["sentences"]]
    for paper in json.loads((data / "pubmedqa_l" / "ori_pqal_dev.json").read_text(encoding="utf-8")).values():
        texts += [paper["QUESTION"], *paper["CONTEXTS"]]
    for name in ("ncbi_disease", "bc5cdr"):
        tsv = (data / name / "train.tsv").read_text(encoding="utf-8")
        texts += [prose.detokenise(block) for block in tsv.split("\n\n") if block.strip()]
    return texts


def _queries(data: Path) -> list[str]:
    bank = [row["text"] for row in _read_csv(data / "banking77" / "train.csv")]
    general = json.loads((data / "clinc150" / "data_full_train_val.json").read_text(encoding="utf-8"))
    naming = ("change_user_name", "user_name", "what_is_your_name", "translate")
    return [*bank, *(text for text, intent in general["train"] if intent not in naming)]
