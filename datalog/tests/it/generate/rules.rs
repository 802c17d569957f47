//! Rules that questions call, for every shape of recursion.

use super::world::Kind;

/// A rule. `EDGE` in it stands for an attribute of references.
pub(super) struct Template {
    pub(super) name: &'static str,
    pub(super) kinds: &'static [Kind],
    /// How many arguments must be bound.
    pub(super) required: usize,
    /// The rules that it calls.
    pub(super) needs: &'static [&'static str],
    /// The head and the body of each branch.
    pub(super) branches: &'static [(&'static str, &'static [&'static str])],
}

impl Template {
    /// Whether a body names the default source, which it then means wherever the rule is called.
    pub(super) fn names_source(&self) -> bool {
        let mut bodies = self.branches.iter().flat_map(|(_, body)| *body);
        bodies.any(|clause| clause.contains(" $ "))
    }
}

const PAIR: &[Kind] = &[Kind::Entity, Kind::Entity];

pub(super) const TEMPLATES: &[Template] = &[
    Template {
        name: "edge",
        kinds: PAIR,
        required: 0,
        needs: &[],
        branches: &[("(edge ?a ?b)", &["(or [?a :x/next ?b] [?a :x/links ?b])"])],
    },
    Template {
        name: "right",
        kinds: PAIR,
        required: 0,
        needs: &[],
        branches: &[
            ("(right ?a ?b)", &["[?a EDGE ?b]"]),
            ("(right ?a ?b)", &["[?a EDGE ?c]", "(right ?c ?b)"]),
        ],
    },
    Template {
        name: "left",
        kinds: PAIR,
        required: 0,
        needs: &["edge"],
        branches: &[
            ("(left ?x ?y)", &["(edge ?x ?y)"]),
            ("(left ?x ?y)", &["(left ?x ?z)", "(edge ?z ?y)"]),
        ],
    },
    Template {
        name: "both",
        kinds: PAIR,
        required: 0,
        needs: &[],
        branches: &[
            ("(both ?a ?b)", &["[?a EDGE ?b]"]),
            ("(both ?a ?b)", &["(both ?a ?c)", "(both ?c ?b)"]),
        ],
    },
    Template {
        name: "back",
        kinds: PAIR,
        required: 0,
        needs: &[],
        branches: &[
            ("(back ?a ?b)", &["[?b EDGE ?a]"]),
            (
                "(back ?a ?b)",
                &["(back ?c ?b)", "[?c EDGE ?a]", "[?c :x/n ?n]", "[(< ?n 3)]"],
            ),
        ],
    },
    Template {
        name: "odd",
        kinds: PAIR,
        required: 0,
        needs: &["even"],
        branches: &[
            ("(odd ?a ?b)", &["[?a EDGE ?b]"]),
            ("(odd ?a ?b)", &["[?a EDGE ?c]", "(even ?c ?b)"]),
        ],
    },
    Template {
        name: "even",
        kinds: PAIR,
        required: 0,
        needs: &["odd"],
        branches: &[("(even ?a ?b)", &["(odd ?c ?b)", "[?a EDGE ?c]"])],
    },
    Template {
        name: "generation",
        kinds: PAIR,
        required: 0,
        needs: &[],
        branches: &[
            ("(generation ?a ?b)", &["[?a EDGE ?p]", "[?b EDGE ?p]"]),
            (
                "(generation ?a ?b)",
                &[
                    "[?a EDGE ?p]",
                    "[?b EDGE ?q]",
                    "(generation ?p ?q)",
                    "[(not= ?p ?q)]",
                ],
            ),
        ],
    },
    Template {
        name: "apart",
        kinds: PAIR,
        required: 0,
        needs: &["right"],
        branches: &[(
            "(apart ?a ?b)",
            &["[?a :x/id]", "[?b :x/id]", "(not (right ?a ?b))"],
        )],
    },
    Template {
        name: "avoiding",
        kinds: PAIR,
        required: 0,
        needs: &["blocked"],
        branches: &[
            ("(avoiding ?a ?b)", &["[?a EDGE ?b]", "(not (blocked ?b))"]),
            (
                "(avoiding ?a ?b)",
                &["(avoiding ?a ?c)", "[?c EDGE ?b]", "(not (blocked ?b))"],
            ),
        ],
    },
    Template {
        name: "blocked",
        kinds: &[Kind::Entity],
        required: 0,
        needs: &[],
        branches: &[
            ("(blocked ?e)", &["[?e :x/n ?n]", "[(> ?n 2)]"]),
            (
                "(blocked ?e)",
                &["[?e :x/s \"b\"]", "(not-join [?e] [_ EDGE ?e])"],
            ),
        ],
    },
    Template {
        name: "endless",
        kinds: PAIR,
        required: 0,
        needs: &[],
        branches: &[("(endless ?a ?b)", &["[?a EDGE ?c]", "(endless ?c ?b)"])],
    },
    Template {
        name: "distance",
        kinds: &[Kind::Entity, Kind::Entity, Kind::Long],
        required: 0,
        needs: &[],
        branches: &[
            ("(distance ?a ?b ?d)", &["[?a EDGE ?b]", "[(ground 1) ?d]"]),
            (
                "(distance ?a ?b ?d)",
                &[
                    "(distance ?a ?c ?f)",
                    "[(< ?f 4)]",
                    "[?c EDGE ?b]",
                    "[(+ ?f 1) ?d]",
                ],
            ),
        ],
    },
    Template {
        name: "steps",
        kinds: &[Kind::Long, Kind::Entity, Kind::Entity],
        required: 1,
        needs: &[],
        branches: &[
            ("(steps [?n] ?a ?b)", &["[(<= ?n 1)]", "[?a EDGE ?b]"]),
            (
                "(steps [?n] ?a ?b)",
                &[
                    "[(< 1 ?n)]",
                    "[(- ?n 1) ?m]",
                    "[?a EDGE ?c]",
                    "(steps ?m ?c ?b)",
                ],
            ),
        ],
    },
    Template {
        name: "upto",
        kinds: &[Kind::Long, Kind::Long],
        required: 1,
        needs: &[],
        branches: &[
            ("(upto [?n] ?m)", &["[(< ?n 5)]", "[(+ ?n 1) ?m]"]),
            (
                "(upto [?n] ?m)",
                &["[(< ?n 5)]", "[(+ ?n 1) ?k]", "(upto ?k ?m)"],
            ),
        ],
    },
    Template {
        name: "size",
        kinds: &[Kind::Entity, Kind::String],
        required: 0,
        needs: &[],
        branches: &[
            ("(size ?e \"a\")", &["[?e :x/n ?n]", "[(> ?n 1)]"]),
            ("(size ?e \"b\")", &["[?e :x/n ?n]", "[(<= ?n 1)]"]),
            ("(size ?e ?s)", &["[?e :x/s ?s]", "[(missing? $ ?e :x/n)]"]),
        ],
    },
    Template {
        name: "same",
        kinds: PAIR,
        required: 0,
        needs: &[],
        branches: &[("(same ?e ?e)", &["[?e :x/n _]"])],
    },
    Template {
        name: "value",
        kinds: &[Kind::Entity, Kind::Long],
        required: 0,
        needs: &[],
        branches: &[
            ("(value ?e ?v)", &["[?e :x/n ?v]"]),
            (
                "(value ?e ?v)",
                &["[?e EDGE ?f]", "[?f :x/n ?v]", "(not [?e :x/n ?v])"],
            ),
        ],
    },
    Template {
        name: "has",
        kinds: &[Kind::Entity, Kind::Attribute],
        required: 0,
        needs: &[],
        branches: &[("(has ?e ?a)", &["[?e :x/id]", "[?e ?a _]"])],
    },
    Template {
        name: "near",
        kinds: &[Kind::Entity, Kind::Entity],
        required: 0,
        needs: &["right"],
        branches: &[(
            "(near ?a ?b)",
            &["(or-join [?a ?b] [?a EDGE ?b] (and (right ?a ?c) (right ?b ?c) [?c :x/n ?a1]))"],
        )],
    },
];

pub(super) fn template(name: &str) -> Option<&'static Template> {
    TEMPLATES.iter().find(|template| template.name == name)
}
