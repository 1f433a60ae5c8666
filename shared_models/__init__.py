"""What cloud and devices share.

A result must not depend on what shares its batch, and MKL, which torch computes with on a CPU, by
itself adds up in an order that depends on the batch's size (in the last bit; on processors without
AVX-512 even rows of one product differ). So it is asked for the strict mode of its conditional
numerical reproducibility, before torch first calls it. That costs no time where it was measured.
"""

import os

os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
