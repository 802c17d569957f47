//! DatomFusion.
