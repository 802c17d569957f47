//! What a session may do to answer sooner.

use datafusion::common::extensions_options;
use datafusion::config::{ConfigExtension, ConfigOptions};

extensions_options! {
    /// What a session may do to answer sooner. All of it is on, and none decides an answer: to find out what a slow or a
    /// suspicious query owes to one, switch it off.
    ///
    /// A session of DataFusion carries them as settings, so in SQL: `SET datomfusion.join_order = false`. Its own rules
    /// are switched by its own settings, such as `datafusion.optimizer.enable_join_dynamic_filter_pushdown`.
    pub struct Optimizations {
        /// Joins are made in the cheapest order that is found; else as they are written.
        pub join_order: bool, default = true
        /// Conditions are tried on samples of values, for the order of joins; else their share is assumed.
        pub samples: bool, default = true
        /// Scans ask the indexes for what conditions name; else they read all, and filter.
        pub index_access: bool, default = true
        /// Recursion along edges is closed by walks; else in rounds, as any other.
        pub walks: bool, default = true
        /// Recursive rules look facts up while they want few; else they read all from the start.
        pub look_ups: bool, default = true
        /// Rules that hand their free arguments on are turned around, so that they need no pair twice; else they are
        /// evaluated as they are written.
        pub factoring: bool, default = true
        /// Small answers of Datalog are kept, and given again; else each question is asked anew.
        pub known_answers: bool, default = true
    }
}

impl ConfigExtension for Optimizations {
    const PREFIX: &'static str = "datomfusion";
}

impl Optimizations {
    /// Those of a session; all, if it does not say.
    pub fn of(options: &ConfigOptions) -> Self {
        options.extensions.get().cloned().unwrap_or_default()
    }

    /// Each by its name, to be switched.
    pub fn switches(&mut self) -> [(&'static str, &mut bool); 7] {
        [
            ("join_order", &mut self.join_order),
            ("samples", &mut self.samples),
            ("index_access", &mut self.index_access),
            ("walks", &mut self.walks),
            ("look_ups", &mut self.look_ups),
            ("factoring", &mut self.factoring),
            ("known_answers", &mut self.known_answers),
        ]
    }
}
