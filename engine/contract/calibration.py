"""The numbers that were measured or traced, not derived: what forecasts of memory and time rest on.

Of SDXL's UNet at 1024 x 1024, batch 1, bf16, unless said; bytes, FLOP, seconds. "Card" is an H100 80GB with torch 2.11,
"traced" the storage of a forward and a backward pass with real shapes. To be measured again: tests/engine
/test_budget_measured.py has the rows.
"""

GIB, MIB = 1 << 30, 1 << 20

# Activations at the backward peak, traced. Both are linear in pixels and batch.
CHECKPOINTED_ACTIVATIONS = 0.675 * GIB
KEPT_ACTIVATIONS = 6.43 * GIB
# With every transformer block and every resnet computed twice, and none kept: at the start of the backward pass.
RING_ACTIVATIONS = 0.66 * GIB
# What a transformer block keeps over its input, in inputs (tokens x channels): 70.5 MiB of 2.5 at 32 x 32 tokens.
KEPT_INPUTS = 27.2

# The ring: slots of 16 MiB, gradients that wait to be added, and sums of small tensors stay on the card.
RING_SLOTS, RING_SLOT_BYTES = 4, 16 * MIB
RING_PENDING = 64 * MIB
RING_SMALL = 1 << 16  # elements
TOGETHER = 1 << 23  # elements of masters and moments that visit the card at a time, if tensors are not larger

# Stage-major. Activations of the greediest unit: half of a deep attention, and where units are smaller a shallow one.
# What comes and goes beside it or has a fixed address: the widest hidden state, skip, output and gradients. What
# libraries take by way of torch.
UNIT_ACTIVATIONS, UNIT_ACTIVATIONS_GROUPED = 375 * MIB, 341 * MIB
UNIT_BUFFERS = 115 * MIB
UNIT_SLACK = 0.11 * GIB
WAITING = 220_000_000  # bytes of a picture between the units that cross the link
# Host memory that they take: each unit's input, and what residuals owe; counted on the whole UNet, with units of
# DEEPEST and of DEEPEST_GROUPED blocks. tests/engine/test_waiting.py counts it again.
WAITING_ROOM, WAITING_ROOM_GROUPED = 268_100_000, 315_300_000
STAYING_MARGIN = 0.25 * GIB  # of the card, that activations which may stay on it leave alone
MOST_TOGETHER = 8  # micro-batches in a group that is chosen, not written

# Context, library modules, allocator slack, recorded graphs: the card's used memory over what torch has allocated.
OVERHEAD = {"plain": 1.3 * GIB, "fast": 1.7 * GIB, "resident": 1.7 * GIB, "stage-major": 1.2 * GIB}
OVERHEAD_GROUP = 0.1 * GIB  # for each micro-batch after the first of a group
# Of these the context, which the first question to the card has taken already.
CONTEXT = 0.45 * GIB
MARGIN = 0.5 * GIB  # of the free memory, left to others

# FLOP a picture: forward, its backward without and with gradients of the weights, and what is computed twice.
FORWARD = 6.76e12
BACKWARD_INPUTS, BACKWARD_WEIGHTS = 6.92e12, 6.92e12
RECOMPUTED_ALL = 4.8e12  # transformer blocks and resnets
RECOMPUTED_BLOCKS = 4.0e12  # of these the transformer blocks
RECOMPUTED_UNITS = 6.6e12

# From FLOP to seconds. Beside large products, which reach their full rate, come kernels that only move activations
# (bytes a picture), the weights' and gradients' own way through the card's memory (bytes a parameter and micro-batch),
# and the pause before each kernel of a replayed graph (seconds a micro-batch): fitted to 99 ms (batch 1) and 62
# (batch 4) with nothing computed twice. That is so by the same kernels: all of it grows with the FLOP.
MOVED = 65e9
MOVED_A_PARAMETER = 10
REPLAYED = 0.040
EAGER = 0.28  # a micro-batch cannot be told to the card any faster by Python
FP32_SLOWER = 8.0
# Of stage-major's way over the link what the computation does not hide: that of the units at full resolution.
EXPOSED = 0.5
UPDATE_BYTES = 40  # through the card's memory, for a parameter, in an update
UPDATE_TENSOR = 0.0006  # seconds to tell the card what to do with one
