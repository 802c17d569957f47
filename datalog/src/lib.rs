//! EDN and the Datalog front end of DatomFusion.

pub mod edn;
