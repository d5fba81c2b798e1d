"""What `jft compare` does: which runs, one after another or side by side, and the tables and plots of them."""
