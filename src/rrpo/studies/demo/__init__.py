"""The demo, over one seed or several, and its policies in other voices."""
