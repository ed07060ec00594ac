"""See README.md in this folder."""

OWNER = "h4hc"
