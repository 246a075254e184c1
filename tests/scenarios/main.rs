//! The promises, each a story told through the public surface.
