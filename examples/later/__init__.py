"""One class whose method is run now and later."""
