"""The book itself: chapters and their artefacts, pages, the page that weighs in a browser."""
