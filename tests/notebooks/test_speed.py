"""What notebook 10 says of the course's own kernels is how they work."""

import course

from quantlab_helpers.kernel_linear import FEW_TOKENS


def test_from_how_many_tokens_on_weights_are_restored():
    prose = "".join(cell.source for cell in course.read("10_speed").cells if cell.cell_type == "markdown")
    assert f"For more than {FEW_TOKENS} the weights are turned into floats again" in prose
