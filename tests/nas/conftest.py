"""One thread of torch for each test process: two of them fighting for a core are ten times slower."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
