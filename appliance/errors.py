"""Every exception raised on purpose, and nothing else.

The tree. A class's `code` is stable and public; its message is safe to show and says what happened, to which
thing, and what to do. `hint` is the remedy on a line of its own. No message carries a prompt, an answer or a key.

    ApplianceError
    ├── InvalidRequest              the request cannot be served as it stands
    │   ├── BackupInvalid           no backup, an altered or an incomplete one
    │   ├── BundleRefused           signed by nobody trusted, altered, too old or for another machine
    │   ├── GoldInvalid             labelled data that cannot be judged by
    │   ├── InputEmpty
    │   ├── InputTooLong
    │   ├── InputNotText            NUL bytes, lone surrogates, invalid UTF-8
    │   ├── GuardBlocked            identifiers where the site's policy forbids them
    │   ├── TableRefused            rows nothing can be learned from
    │   ├── NoSpecialistFits        the router chooses none: a person must name one
    │   └── UnknownOption
    ├── Unauthenticated             nobody, or nobody we know
    │   └── SetupLinkInvalid
    ├── PermissionDenied            somebody we know, who may not
    ├── TooManyAttempts             carries retry_after_s
    ├── NotFound
    │   ├── SpecialistNotFound
    │   ├── ModelNotFound
    │   ├── RecordNotFound
    │   ├── ConversationNotFound    or somebody else's
    │   └── AccountNotFound
    ├── Conflict
    │   ├── AccountExists
    │   ├── UnderLegalHold          a hold covers what was to be destroyed
    │   ├── RetentionShortened      retention is lengthened only
    │   └── SecondPersonNeeded      the person who asked cannot approve
    ├── EngineError
    │   ├── QueueFull               carries retry_after_s
    │   ├── EngineUnavailable       the worker died or is restarting
    │   ├── GuardUnavailable        the policy wants identifiers found, and nothing here finds them
    │   ├── DeadlineExceeded
    │   └── RequestCancelled        the client went away
    ├── ModelFileError
    │   ├── ModelFileRefused        wrong hash, not registered, does not fit
    │   │   ├── SignatureInvalid    malformed, of another file, or not by the key it names
    │   │   └── SignerUntrusted     not signed by anybody this site trusts
    │   ├── SpecialistFileInvalid   truncated, foreign or malformed
    │   ├── BaseModelUnavailable    no source can be reached
    │   └── ModelSourceUnavailable  the hub cannot be reached, or does not give this model
    ├── AuditError
    │   ├── AuditUnavailable        not recorded, therefore not released
    │   │   └── AuditPaused         the disk is nearly full; recording resumes by itself
    │   ├── AuditLogInvalid         the log does not verify
    │   ├── AuditQuarantined        something outside remembers a longer or another log
    │   └── WitnessRefused          a witness did not cosign, and said why
    ├── KeyMaterialError
    │   ├── WrongKey                a key does not match its check value
    │   ├── KeystoreInvalid
    │   ├── KeystoreLocked          a passphrase is needed, or too many were wrong
    │   └── DecryptionFailed        one message for every cause
    ├── HomeError                   the data folder
    │   ├── HomeNotInitialised
    │   ├── HomeExists
    │   ├── HomeReadOnly
    │   ├── HomeFull
    │   ├── HomeTooNew
    │   └── HomeInUse
    ├── ConfigInvalid
    ├── ExtraMissing                needs a part of the product that is not installed
    ├── TrainingFailed              a run stopped before it had a result
    └── ServerUnavailable           a client of the API could not reach it
"""


class ApplianceError(Exception):
    """Root of everything raised on purpose. `message` is for the person who must act; `hint` is the remedy."""

    code = "internal_error"

    def __init__(self, message: str, *, hint: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.retry_after_s = retry_after_s


class InvalidRequest(ApplianceError):
    code = "invalid_request"


class BackupInvalid(InvalidRequest):
    code = "backup_invalid"


class BundleRefused(InvalidRequest):
    code = "bundle_refused"


class GoldInvalid(InvalidRequest):
    code = "gold_invalid"


class InputEmpty(InvalidRequest):
    code = "input_empty"


class InputTooLong(InvalidRequest):
    code = "input_too_long"


class InputNotText(InvalidRequest):
    code = "input_not_text"


class TableRefused(InvalidRequest):
    code = "table_refused"


class GuardBlocked(InvalidRequest):
    code = "guard_blocked"


class NoSpecialistFits(InvalidRequest):
    code = "no_specialist_fits"


class UnknownOption(InvalidRequest):
    code = "unknown_option"


class Unauthenticated(ApplianceError):
    code = "unauthenticated"


class SetupLinkInvalid(Unauthenticated):
    code = "setup_link_invalid"


class PermissionDenied(ApplianceError):
    code = "permission_denied"


class TooManyAttempts(ApplianceError):
    code = "too_many_attempts"


class NotFound(ApplianceError):
    code = "not_found"


class SpecialistNotFound(NotFound):
    code = "specialist_not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"


class RecordNotFound(NotFound):
    code = "record_not_found"


class ConversationNotFound(NotFound):
    code = "conversation_not_found"


class AccountNotFound(NotFound):
    code = "account_not_found"


class Conflict(ApplianceError):
    code = "conflict"


class AccountExists(Conflict):
    code = "account_exists"


class UnderLegalHold(Conflict):
    code = "under_legal_hold"


class RetentionShortened(Conflict):
    code = "retention_shortened"


class SecondPersonNeeded(Conflict):
    code = "second_person_needed"


class EngineError(ApplianceError):
    code = "engine_error"


class QueueFull(EngineError):
    code = "queue_full"


class EngineUnavailable(EngineError):
    code = "engine_unavailable"


class GuardUnavailable(EngineError):
    code = "guard_unavailable"


class DeadlineExceeded(EngineError):
    code = "deadline_exceeded"


class RequestCancelled(EngineError):
    code = "request_cancelled"


class ModelFileError(ApplianceError):
    code = "model_file_error"


class ModelFileRefused(ModelFileError):
    code = "model_file_refused"


class SignatureInvalid(ModelFileRefused):
    code = "signature_invalid"


class SignerUntrusted(ModelFileRefused):
    code = "signer_untrusted"


class SpecialistFileInvalid(ModelFileError):
    code = "specialist_file_invalid"


class BaseModelUnavailable(ModelFileError):
    code = "base_model_unavailable"


class ModelSourceUnavailable(ModelFileError):
    code = "model_source_unavailable"


class AuditError(ApplianceError):
    code = "audit_error"


class AuditUnavailable(AuditError):
    code = "audit_unavailable"


class AuditPaused(AuditUnavailable):
    code = "audit_paused"


class AuditLogInvalid(AuditError):
    code = "audit_log_invalid"


class AuditQuarantined(AuditError):
    code = "audit_quarantined"


class WitnessRefused(AuditError):
    code = "witness_refused"


class KeyMaterialError(ApplianceError):
    code = "key_error"


class WrongKey(KeyMaterialError):
    code = "wrong_key"


class KeystoreInvalid(KeyMaterialError):
    code = "keystore_invalid"


class KeystoreLocked(KeyMaterialError):
    code = "keystore_locked"


class DecryptionFailed(KeyMaterialError):
    code = "decryption_failed"


class HomeError(ApplianceError):
    code = "home_error"


class HomeNotInitialised(HomeError):
    code = "home_not_initialised"


class HomeExists(HomeError):
    code = "home_exists"


class HomeReadOnly(HomeError):
    code = "home_read_only"


class HomeFull(HomeError):
    code = "home_full"


class HomeTooNew(HomeError):
    code = "home_too_new"


class HomeInUse(HomeError):
    code = "home_in_use"


class ConfigInvalid(ApplianceError):
    code = "config_invalid"


class ExtraMissing(ApplianceError):
    code = "extra_missing"


class TrainingFailed(ApplianceError):
    code = "training_failed"


class ServerUnavailable(ApplianceError):
    code = "server_unavailable"
