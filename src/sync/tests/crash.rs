//! A machine stops at any operation, somebody is faster, or bytes are damaged.

use super::*;
