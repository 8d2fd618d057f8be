"""What is said where the driver says nothing."""

BROKEN_STARTS = {
    "NVMLError_LibraryNotFound": "No NVIDIA driver was found (libnvidia-ml.so.1 is missing): install the driver, or "
    "start the container with GPU access.",
    "NVMLError_DriverNotLoaded": "The NVIDIA driver is installed but not loaded: `sudo modprobe nvidia`, or reboot.",
    "NVMLError_LibRmVersionMismatch": "The NVIDIA driver was updated while it was loaded, and its library no longer "
    "matches the kernel module: reboot.",
    "NVMLError_NoPermission": "The NVIDIA driver refuses access: check the permissions of /dev/nvidia*.",
}
NO_PACKAGE = "The package nvidia-ml-py, which reads the GPU, is missing: install it with `pip install nvidia-ml-py`."
NO_CARD = "The NVIDIA driver runs but shows no GPU: check `nvidia-smi -L`, and the container's GPU access if in one."
GONE = "The NVIDIA driver no longer shows this card: see what `nvidia-smi` says."
