"""What there is to buy."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Choice:
    """Something to choose about a product: its name, and the values it can have."""

    name: str
    label: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Product:
    slug: str
    name: str
    line: str
    story: str
    cents: int
    tone: str
    choices: tuple[Choice, ...] = field(default=())


PRODUCTS: tuple[Product, ...] = (
    Product(
        "field-notebook",
        "Field notebook",
        "Forty-eight pages that fit a coat pocket.",
        "Three staples, soft covers and paper that takes a fountain pen. It lies flat after the second day and looks "
        "better after the second month.",
        950,
        "clay",
        (
            Choice("ruling", "Ruling", ("dotted", "lined", "plain")),
            Choice("cover", "Cover", ("clay", "moss", "ink")),
        ),
    ),
    Product(
        "ledger",
        "Bound ledger",
        "Two hundred numbered pages, sewn.",
        "A book for what has to add up: numbered pages, a ribbon, an index at the front and a cloth spine that "
        "outlives the company.",
        2800,
        "moss",
        (Choice("ruling", "Ruling", ("squared", "columns")),),
    ),
    Product(
        "letter-set",
        "Letter set",
        "Twelve sheets, twelve envelopes.",
        "Laid paper with a deckle edge, and envelopes lined in grey so that nobody reads along on the way.",
        1600,
        "ink",
        (Choice("paper", "Paper", ("cream", "white", "grey")),),
    ),
    Product(
        "pencils",
        "Three pencils",
        "Cedar, unvarnished.",
        "Cedar from one valley, left as it grew. They smell of a classroom on the first day of school.",
        600,
        "straw",
        (Choice("grade", "Grade", ("HB", "2B", "4B")),),
    ),
    Product(
        "iron-ink",
        "Iron gall ink",
        "Goes on pale, turns black for good.",
        "The ink of treaties and recipe books. It darkens while you watch, and no water will move it afterwards.",
        1350,
        "plum",
        (
            Choice("colour", "Colour", ("blue-black", "black", "sepia")),
            Choice("size", "Size", ("30 ml", "50 ml")),
        ),
    ),
    Product(
        "bone-folder",
        "Bone folder",
        "One straight crease, every time.",
        "A flat blade of beech, boiled in oil. Folds, scores, smooths, and opens the post as well.",
        800,
        "sand",
    ),
)

BY_SLUG = {product.slug: product for product in PRODUCTS}


def price(cents: int) -> str:
    return f"€{cents // 100}.{cents % 100:02d}"
