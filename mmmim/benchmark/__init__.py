"""Many protocols, several encoders, one page: what ``mmmim benchmark`` does."""
