"""The numbers that the course is known by stand in the stored outputs, as printed by the cells there."""

import course
import pytest

PRINTED = {
    "01_float32_to_int8": ["scale 0.02058", "0.0051890863", "0.010284424"],
    "02_memory_savings": ["3.91 KiB", "0.98 KiB", "74.9 %"],
    "03_bit_width_sweep": ["0.0001", "0.0052", "0.0936", "0.0009", "0.0103", "0.1864"],
    "04_quantized_linear_layer": ["0.014514327", "0.03560257"],
}


@pytest.mark.parametrize(("name", "number"), [(name, n) for name, numbers in PRINTED.items() for n in numbers])
def test_number_is_printed(name, number):
    assert number in course.stored_text(name)
