"""A fly-through of sections as a film: real beside generated, or one channel of any image on a colour scale."""
