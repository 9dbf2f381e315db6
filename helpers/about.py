"""Who we are: the one home of the tool's name, version and address."""

VERSION = "0.1.0"
REPOSITORY_URL = "https://github.com/mtg-image-db/mtg-image-db"
CONTACT = "https://github.com/mtg-image-db/mtg-image-db/issues"

# Scryfall answers 400 to a request without a User-Agent and asks for one that names the tool.
DEFAULT_USER_AGENT = f"MTG-Image-DB/{VERSION} (+{REPOSITORY_URL}; {CONTACT})"
