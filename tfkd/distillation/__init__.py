"""A student learns from a teacher."""
