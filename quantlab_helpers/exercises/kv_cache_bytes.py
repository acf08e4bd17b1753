"""Exercise: how many bytes the keys and values of all tokens take (notebook 11)."""

from .base import Exercise, WrongAnswer


def kv_cache_bytes(num_layers, num_heads, num_kv_heads, head_size, tokens, users, bytes_per_number):
    """Return the bytes of a KV cache: a key and a value for each layer, head of keys, token and user."""
    numbers_of_a_token = 2 * num_layers * num_kv_heads * head_size
    return numbers_of_a_token * tokens * users * bytes_per_number


EXAMPLES = (
    (2, 4, 2, 8, 10, 1, 4),
    (2, 4, 2, 8, 10, 3, 2),
    (30, 9, 3, 64, 2048, 1, 2),
    (24, 32, 32, 64, 8192, 8, 2),
    (16, 32, 8, 64, 131072, 4, 1),
)


def cases(rng):
    for _ in range(6):
        kv_heads, group = (int(n) for n in rng.integers(1, 9, 2))
        layers, head_size = int(rng.integers(1, 40)), 8 * int(rng.integers(1, 17))
        tokens, users = int(rng.integers(1, 50_000)), int(rng.integers(1, 20))
        yield layers, kv_heads * group, kv_heads, head_size, tokens, users, (4, 2, 1)[rng.integers(3)]
    yield 80, 64, 8, 128, 1_000_000, 1000, 2  # beyond what 32 bits hold


# The wrong answers below change one factor of the product each.


def _product(keys_and_values=2, heads="kv", change=lambda product, arguments: product):
    def function(num_layers, num_heads, num_kv_heads, head_size, tokens, users, bytes_per_number):
        arguments = num_layers, num_heads, num_kv_heads, head_size, tokens, users, bytes_per_number
        used = {"kv": num_kv_heads, "all": num_heads, "both": num_heads + num_kv_heads, "one": 1}[heads]
        product = num_layers * used * head_size * tokens * users * bytes_per_number
        return change(keys_and_values * product, arguments)

    return function


def _without(*places):
    """The product without the factors at some places of the arguments."""

    def change(product, arguments):
        for place in places:
            product //= arguments[place]
        return product

    return _product(change=change)


EXERCISE = Exercise(
    reference=kv_cache_bytes,
    outputs=("nbytes",),
    checked="keys and values, layers, heads of keys, tokens and users, numbers of 4, 2 and 1 bytes, up to terabytes",
    examples=EXAMPLES,
    cases=cases,
    hints=(
        "For one token: what does each layer keep, and for how many heads?",
        "Each layer keeps a key *and* a value for each of the `num_kv_heads`; each is a vector of `head_size` numbers.",
        "`2 * num_layers * num_kv_heads * head_size` numbers for a token. Then times tokens, users and "
        "`bytes_per_number`.",
    ),
    wrong_answers=(
        WrongAnswer(
            "keys or values only",
            (_product(keys_and_values=1),),
            "That is half of it: the cache keeps a key *and* a value.",
        ),
        WrongAnswer(
            "queries counted, too",
            (
                _product(keys_and_values=3),
                _product(keys_and_values=1, heads="both"),
                lambda L, H, K, size, t, u, b: L * (H + 2 * K) * size * t * u * b,
            ),
            "Only keys and values are kept. The query of a token is used once, when the token is read, and never "
            "again.",
        ),
        WrongAnswer(
            "heads of queries",
            (_product(heads="all"), _product(keys_and_values=1, heads="all")),
            "Several heads of queries share the keys and values of one head: there are `num_kv_heads` of these, not "
            "`num_heads`. That sharing is what grouped-query attention was invented for.",
        ),
        WrongAnswer(
            "one head",
            (_product(heads="one"), _product(keys_and_values=1, heads="one")),
            "You count one head: each layer has `num_kv_heads` heads of keys and values.",
        ),
        WrongAnswer(
            "one layer",
            (_without(0),),
            "You count one layer. Every layer has keys and values of its own.",
        ),
        WrongAnswer(
            "one number for each head",
            (_without(3),),
            "A key is a vector: `head_size` numbers for each head.",
        ),
        WrongAnswer(
            "one user",
            (_without(5),),
            "You count one user. Each user has another text, so keys and values of their own.",
        ),
        WrongAnswer(
            "one token",
            (_without(4), _without(4, 5)),
            "You count one token. The cache keeps every token of the text so far: that is what it is for.",
        ),
        WrongAnswer(
            "numbers in place of bytes",
            (_without(6),),
            "You count numbers. Each takes `bytes_per_number` bytes.",
        ),
        WrongAnswer(
            "bits in place of bytes",
            (
                _product(change=lambda product, _: 8 * product),
                _product(change=lambda product, _: product // 8),
                _product(change=lambda product, _: product / 8),
            ),
            "You mix bits and bytes: `bytes_per_number` is in bytes already, and so is the answer.",
        ),
        WrongAnswer(
            "tokens squared",
            (_product(change=lambda product, arguments: product * arguments[4]),),
            "You count pairs of tokens. Attention *compares* all pairs, but it keeps only a key and a value of each "
            "token: the cache grows in proportion to the text, not with its square.",
        ),
        WrongAnswer(
            "in another unit",
            tuple(
                _product(change=lambda product, _, unit=unit: product / unit)
                for unit in (1000, 1024, 10**6, 2**20, 10**9, 2**30)
            ),
            "Return bytes, not kB, MB or GB.",
        ),
        WrongAnswer(
            "numbers of 4 bytes always",
            (_product(change=lambda product, arguments: 4 * product // arguments[6]),),
            "You take 4 bytes for each number. A cache may be held in float16 or int8: use `bytes_per_number`.",
        ),
        WrongAnswer(
            "numbers of 2 bytes always",
            (_product(change=lambda product, arguments: 2 * product // arguments[6]),),
            "You take 2 bytes for each number. A cache may be held in float32 or int8: use `bytes_per_number`.",
        ),
        WrongAnswer(
            "a float",
            (_product(change=lambda product, _: float(product)),),
            "The number is right but a float. Bytes are whole: multiply whole numbers.",
        ),
    ),
)
