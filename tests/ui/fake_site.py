"""What the in-memory API says of the site: what protects it, and what its models were measured to do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any


def ago(**of: float) -> str:
    return (datetime.now(UTC) - timedelta(**of)).isoformat()


def well_protected() -> dict[str, Any]:
    checks = (
        ("egress", "ok", "blocked, tried 3 h ago", "appliance doctor --egress tries every way out"),
        ("backup", "ok", "last backup 5 h ago; last rehearsal of a restore 48 h ago", "appliance backup create"),
        ("recovery kit", "ok", "opens slot 2", ""),
        ("certificate", "warn", "for ward3.clinic.example, until 2026-12-09", "appliance tls create NAME"),
    )
    return {
        "egress": {
            "time": ago(hours=3),
            "verdict": "blocked",
            "ways": {"tcp": "refused: network is unreachable", "dns": "refused: no name server answers"},
            "blocked_since": ago(days=12),
        },
        "backup": {"time": ago(hours=5), "succeeded": True, "error": ""},
        "drill": {"time": ago(days=2), "succeeded": True, "error": ""},
        "recovery_kit": True,
        "certificate": {
            "names": ["ward3.clinic.example"],
            "not_after": "2026-12-09T00:00:00+00:00",
            "fingerprint": ":".join(["A1"] * 32),
        },
        "checks": [dict(zip(("name", "state", "found", "remedy"), check, strict=True)) for check in checks],
    }


def unprotected() -> dict[str, Any]:
    checks = (
        ("egress", "warn", "it was never tried to leave this machine", "appliance doctor --egress tries every way out"),
        ("backup", "warn", "no backup was ever made", "set backup.folder in config.toml"),
        ("recovery kit", "warn", "there is none", "appliance recovery-kit create"),
        ("certificate", "ok", "none: the server is reached on this machine", "appliance tls create NAME"),
    )
    nothing = dict.fromkeys(("egress", "backup", "drill", "certificate"))
    names = ("name", "state", "found", "remedy")
    return {**nothing, "recovery_kit": False, "checks": [dict(zip(names, check, strict=True)) for check in checks]}


def two_models() -> dict[str, Any]:
    rows = [{"answers": count, "tokens_per_s": speed} for count, speed in ((1, 21.53), (2, 17.0), (4, 9.04))]
    measured = {
        "time": "2026-11-20T08:15:00+00:00",
        "device": "CPU, 16 threads",
        "gpu_refused": None,
        "memory_bytes": 2_600_000_000,
    }
    return {
        "data": [
            {
                "model": "qwen3-4b",
                "sha256": "5b" * 32,
                "capacity": {**measured, "rows": rows, "speed": 8.0, "users": 4},
                "command": "appliance doctor --capacity qwen3-4b",
            },
            {
                "model": "medgemma-4b",
                "sha256": "6c" * 32,
                "capacity": None,
                "command": "appliance doctor --capacity medgemma-4b",
            },
        ]
    }
