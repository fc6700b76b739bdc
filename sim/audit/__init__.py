"""`seepage audit`: what a TFLite file that anybody made is, where it runs, and what it gives away."""
