"""How much one request may ask for, in every dialect. Lengths are in characters."""

MOST_TOOLS = 350
MOST_STOPS = 8
LONGEST_STOP = 256
LONGEST_MODEL = 256
MOST_CHOICES = 128
MOST_PROMPTS = 128
