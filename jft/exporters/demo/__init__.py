"""A page with the network inside: one HTML file that classifies images in a browser, without a network connection."""
