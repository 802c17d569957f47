//! What travels is what is new, whatever happened at either end meanwhile.

use super::*;
