"""Whom a text is about, as the caller names them: a case or patient number. Pure.

check_subject(" MRN 4711 ")      # "MRN 4711"; "" for none

It chooses the key of the contents and enters no record and no message, so one person's contents can be destroyed alone.
The same name in another Unicode form is the same subject.
"""

from __future__ import annotations

import unicodedata

from appliance.errors import InvalidRequest

SUBJECT_CHARS_MAX = 128


def check_subject(subject: str) -> str:
    """The subject in one form, empty for none. Raises `InvalidRequest`, without repeating what was sent."""
    text = unicodedata.normalize("NFC", subject).strip()
    if len(text) > SUBJECT_CHARS_MAX:
        raise InvalidRequest(
            f"the subject has {len(text)} characters; at most {SUBJECT_CHARS_MAX} are taken",
            hint="send a case or patient number, not a description",
        )
    # Control (Cc), format (Cf: invisible and bidirectional marks), surrogate (Cs) and line separators: two subjects
    # that look alike would be two people to the log.
    if any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in text):
        raise InvalidRequest(
            "the subject has a control character", hint="send it as plain characters on one line, as `MRN-4711`"
        )
    return text


def require_subject(subject: str) -> str:
    """As `check_subject`, where one is needed. Raises `InvalidRequest`."""
    text = check_subject(subject)
    if not text:
        raise InvalidRequest("no subject is named", hint="send the case or patient number that texts were sent with")
    return text
