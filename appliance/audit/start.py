"""What a sequencer of this log is told when it starts: places, bounds, and the keys that sign.

start = start_message(config, keystore)      # made anew for every sequencer: keys may have rotated
"""

from __future__ import annotations

from appliance import __version__
from appliance.audit.keystore import Keystore
from appliance.audit.protocol import FRAME_OVERHEAD_BYTES, Start
from appliance.config import Config


def start_message(config: Config, keystore: Keystore) -> Start:
    """What a sequencer of this log is told when it starts."""
    home, settings = config.home, config.audit
    seeds = keystore.signing_seeds(settings.signing_overlap_s)
    return Start(
        database=str(home.audit_database),
        signer_state=str(home.signer_state),
        runtime=str(home.runtime),
        origin=keystore.origin,
        log_id=keystore.log_id,
        seed=seeds[0],
        software=__version__,
        batch_max=settings.batch_max,
        queue_max=settings.queue_max,
        # Padding adds at most an eighth to a part, and less than the overhead to a small one.
        frame_bytes_max=settings.record_bytes_max * 9 // 8 + FRAME_OVERHEAD_BYTES,
        heartbeat_s=settings.heartbeat_s,
        retiring=tuple(seeds[1:]),
        public_keys=tuple(key.public for key in keystore.public_keys() if key.origin == keystore.origin),
        signing_overlap_s=settings.signing_overlap_s,
        disk_free_bytes_min=settings.disk_free_bytes_min,
        reserve_bytes=settings.reserve_bytes,
    )
