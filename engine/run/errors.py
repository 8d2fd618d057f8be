"""A run that cannot go on, in words for the person at the keyboard."""

LESS_MEMORY = (
    "Take a leaner memory.plan if there is one (from the greediest: plain, fast, resident, stage-major), train fewer "
    "layers, lower data.resolution or train.batch_size, and look with nvidia-smi for other programs on the card."
)
LESS_HOST_MEMORY = (
    "End other programs, train fewer layers, or lower train.accumulate or data.resolution: stage-major keeps a step's "
    "pictures in host memory."
)


class RunError(Exception):
    """`code` is for scripts, `text` says what is wrong and where, `remedy` what to do."""

    def __init__(self, code: str, text: str, remedy: str) -> None:
        super().__init__(f"{text}. {remedy}")
        self.code, self.text, self.remedy = code, text, remedy
