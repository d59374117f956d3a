"""What a text is refused or mended for: language, quality, boilerplate, broken encodings."""
