"""Which devices there are to compute on."""

import os
import re
import shutil
import subprocess

from processes import Failure

CHOICE = "GGML_VK_VISIBLE_DEVICES"


def vulkan():
    """The environment with which llama.cpp takes a device, and what it is in words."""
    listed = subprocess.run(["vulkaninfo", "--summary"], capture_output=True, text=True)
    devices = re.findall(r"deviceType\s*=\s*PHYSICAL_DEVICE_TYPE_(\w+)\s+deviceName\s*=\s*(.+)", listed.stdout)
    if not devices:
        raise Failure(f"vulkaninfo names no device:\n{(listed.stdout + listed.stderr)[-1000:]}")
    named = ", ".join(f"{number}: {name} ({kind})" for number, (kind, name) in enumerate(devices))
    if CHOICE in os.environ:
        return {}, f"device {os.environ[CHOICE]} of {named}, as {CHOICE} says"
    if any(kind != "CPU" for kind, _ in devices):
        return {}, f"of {named} those that are cards"
    # llama.cpp takes a processor that plays a card only if it is told to.
    return {CHOICE: "0"}, f"NO CARD, the processor plays one: {named}"


def cuda():
    if shutil.which("nvidia-smi") is None:
        return {}, "a card of which nvidia-smi, which is not here, would tell more"
    listed = subprocess.run(["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"], capture_output=True, text=True)
    return {}, "; ".join(listed.stdout.splitlines()) or "a card that nvidia-smi does not name"
