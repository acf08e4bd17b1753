"""Exercise: the bits of NF4 for each weight, scales counted, with double quantization or not (notebook 07)."""

from .base import Exercise, WrongAnswer


def nf4_bits(num_weights, block_size, double_quant):
    """Return the bits per weight, a float: 4 for the code, and a share of what the scales take."""
    blocks = -(-num_weights // block_size)  # rounded up: the last one may be short
    scale_bits = 32 * blocks
    if double_quant:
        large_blocks = -(-blocks // 256)
        scale_bits = 8 * blocks + 32 * large_blocks + 32  # 8-bit codes, their scales, the mean
    return 4 + scale_bits / num_weights


EXAMPLES = ((6400, 64, False), (6400, 64, True), (1000, 64, False), (65536, 64, True))


def cases(rng):
    for block_size in (32, 64, 128, 4096):
        for double_quant in (False, True):
            yield int(rng.integers(2, 10**6)), block_size, double_quant
    yield 16384 * int(rng.integers(1, 99)), 64, True


def _variant(*, blocks=lambda n, size: -(-n // size), large=lambda n: -(-n // 256), single=32, total=None):
    """The reference with other numbers in it. total(blocks, large blocks): the bits of the scales."""
    bits_of_double = total or (lambda count, large_count: 8 * count + 32 * large_count + 32)

    def function(num_weights, block_size, double_quant):
        count = blocks(num_weights, block_size)
        bits = bits_of_double(count, large(count)) if double_quant else single * count
        return 4 + bits / num_weights

    return function


def _only_the_scales(num_weights, block_size, double_quant):
    return nf4_bits(num_weights, block_size, double_quant) - 4


def _only_float32_scales(num_weights, block_size, double_quant):
    return _without_the_flag(num_weights, block_size, double_quant) - 4


def _total(num_weights, block_size, double_quant):
    return nf4_bits(num_weights, block_size, double_quant) * num_weights


def _round_numbers(num_weights, block_size, double_quant):
    return 4 + (8 / block_size + 32 / (block_size * 256) if double_quant else 32 / block_size)


def _round_number_without_the_flag(num_weights, block_size, double_quant):
    return 4 + 32 / block_size


def _without_the_flag(num_weights, block_size, double_quant):
    return nf4_bits(num_weights, block_size, False)


def _always_double(num_weights, block_size, double_quant):
    return nf4_bits(num_weights, block_size, True)


EXERCISE = Exercise(
    reference=nf4_bits,
    outputs=("bits",),
    checked="blocks of 32 to 4096, last blocks that are not full, few weights and a million, both kinds of scales",
    examples=EXAMPLES,
    cases=cases,
    hints=(
        "Count bits for the whole weight, then divide: how many blocks are there, and what does each of their scales "
        "take? The 4 bits of the codes come on top.",
        "`-(-a // b)` is a / b rounded up, or `math.ceil(a / b)`. A block that is not full has a scale, too.",
        "With double quantization: 8 bits for each block, 32 for each 256 blocks (rounded up), once 32 for the mean.",
    ),
    wrong_answers=(
        WrongAnswer(
            "forgot the codes",
            (_only_the_scales, _only_float32_scales),
            "That is what the scales cost. The codes themselves take 4 bits a weight.",
        ),
        WrongAnswer(
            "the total",
            (_total,),
            "These are the bits of all weights together: divide by `num_weights`.",
        ),
        WrongAnswer(
            "bytes for bits",
            (_variant(single=4, total=lambda n, large: n + 4 * large + 4),),
            "You count the scales in bytes and the codes in bits. A float32 takes 32 bits.",
        ),
        WrongAnswer(
            "16-bit scales",
            (_variant(single=16, total=lambda n, large: 8 * n + 16 * large + 16),),
            "bitsandbytes holds these scales as float32: 32 bits each.",
        ),
        WrongAnswer(
            "the last block forgotten",
            (
                _variant(blocks=lambda n, size: n // size, large=lambda n: n // 256),
                _variant(blocks=lambda n, size: n // size),
            ),
            "The last block may be short, but it has a scale like all others: round the number of blocks *up*.",
        ),
        WrongAnswer(
            "the last block of scales forgotten",
            (_variant(large=lambda n: n // 256),),
            "The last 256 scales may be fewer, but they share a scale as well: round up there, too.",
        ),
        WrongAnswer(
            "fractions of blocks",
            (
                _round_numbers,
                _round_number_without_the_flag,
                _variant(blocks=lambda n, size: n / size, large=lambda n: n / 256),
            ),
            "That is the rule of thumb, right for many weights and full blocks. Count what is really held: whole "
            "blocks, rounded up, and the mean.",
        ),
        WrongAnswer(
            "forgot the mean",
            (_variant(total=lambda n, large: 8 * n + 32 * large),),
            "Nearly: the mean that was subtracted from the scales is held, too: 32 bits, once.",
        ),
        WrongAnswer(
            "a mean for each block of 256",
            (_variant(total=lambda n, large: 8 * n + 64 * large),),
            "You count a mean for each block of 256 scales. There is one for the whole weight.",
        ),
        WrongAnswer(
            "forgot the scales' scales",
            (_variant(total=lambda n, large: 8 * n + 32), _variant(total=lambda n, large: 8 * n)),
            "The 8-bit codes of the scales need scales of their own: 32 bits for each 256 of them.",
        ),
        WrongAnswer(
            "both kinds of scales",
            (_variant(total=lambda n, large: 40 * n + 32 * large + 32),),
            "With double quantization the float32 scales are gone: 8 bits each are left.",
        ),
        WrongAnswer(
            "one scale for all scales",
            (_variant(large=lambda n: 1),),
            "You count one scale for all scales: there is one for each 256 of them.",
        ),
        WrongAnswer(
            "no double quantization",
            (_without_the_flag,),
            "Your answer is the same with and without double quantization: mind `double_quant`.",
        ),
        WrongAnswer(
            "always double quantization",
            (_always_double,),
            "Your answer is the same with and without double quantization: without it, each block has a float32.",
        ),
    ),
)
