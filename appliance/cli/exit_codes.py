"""One table from error classes to exit statuses, so that scripts can tell what happened.

0 success · 1 internal error · 2 usage (Typer's) · 3 some lines of a batch failed · 4 input refused · 5 not allowed
6 not found or already there · 7 engine, training · 8 model file · 9 audit log cannot record
10–16, 30 what `auditverify` found · 20 wrong key · 21 data folder · 22 configuration, or a part that is not installed
"""

from __future__ import annotations

from appliance import errors

SOME_LINES_FAILED = 3

EXIT_CODES: dict[type[errors.ApplianceError], int] = {
    errors.ApplianceError: 1,
    errors.InvalidRequest: 4,
    errors.Unauthenticated: 5,
    errors.PermissionDenied: 5,
    errors.TooManyAttempts: 5,
    errors.NotFound: 6,
    errors.Conflict: 6,
    errors.EngineError: 7,
    errors.ModelFileError: 8,
    errors.AuditError: 9,
    errors.KeyMaterialError: 20,
    errors.HomeError: 21,
    errors.ConfigInvalid: 22,
    errors.ExtraMissing: 22,
    errors.TrainingFailed: 7,
    errors.ServerUnavailable: 7,
}


def exit_code_of(error: errors.ApplianceError) -> int:
    """Exit status of an error; a class missing from the table takes its nearest ancestor's."""
    return next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)
