"""The child process: llama.cpp's own server on a Unix socket. Run as `python -m leadline.engines.llamacpp.child`."""

import os
import threading
from typing import Any

from leadline.engines.embedded.child import die_with_parent, take_standard_streams, tell

# Prompts are read in pieces of this many tokens. Between two pieces a hung-up request is dropped and the other
# requests get their next tokens. Measured on a CPU, larger pieces are no faster, and pieces of 64 take a sixth longer.
BATCH_TOKENS = 128
# Some projectors' images must fit into one piece.
VISION_BATCH_TOKENS = 512


def main() -> None:
    report, settings = take_standard_streams()
    die_with_parent()
    try:
        server, version = _serve(settings)
    except Exception as error:
        tell(report, {"error": type(error).__name__})
        os._exit(1)
    tell(report, {"ready": True, "version": version, "address": server.listening_address})
    threading.Event().wait()


def _serve(settings: dict[str, Any]) -> tuple[Any, str]:
    if settings["shares_cores"]:
        # Threads that wait for others sleep instead of spinning. It is read when the library is loaded.
        os.environ["OMP_WAIT_POLICY"] = "passive"
    # Stands for an image in a prompt; read when the library is loaded.
    os.environ["LLAMA_MEDIA_MARKER"] = settings["marker"]
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = settings["weights"]
    if settings["projector"] is not None:
        params.mmproj.path = settings["projector"]
        if settings["image_tokens"]:
            params.image_max_tokens = settings["image_tokens"]
    # What is no image it tries to play as a video: there is no player.
    params.video_ffmpeg_bin_dir = os.devnull
    params.hostnames = [settings["socket"]]
    params.api_keys = [settings["key"]]
    params.n_ctx = settings["cache_tokens"]
    params.n_parallel = settings["slots"]
    # One pool of context for all slots; without it each slot has only its share.
    params.kv_unified = True
    params.n_batch = params.n_ubatch = settings["batch_tokens"]
    if settings["cache_type"] == "q8_0":
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_Q8_0
    params.embedding = settings["embeds"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings["threads"]
    params.n_threads_http = settings["parallel_requests"] + 4
    # What it kept beside the slots it would give to whoever begins alike, whosever it was.
    params.cache_ram_mib = 0
    # Where slots would be saved; without it none can be erased.
    params.slot_save_path = os.path.dirname(settings["socket"])
    params.use_jinja = True
    params.endpoint_slots = params.endpoint_props = True
    params.endpoint_metrics = False
    params.ui = False
    params.offline = True
    params.verbosity = 1
    return xllamacpp.Server(params), str(xllamacpp.__version__)


if __name__ == "__main__":
    main()
