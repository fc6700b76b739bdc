"""The TFLite format: files read as plain checked values, and what follows from them alone."""
