//! `:where`, and the bodies of rules.

use super::{Parser, describe, is_symbol, plain_symbol, quoted, source, variable};
use crate::ast::{
    Argument, Call, Callee, CalleeName, Clause, ClauseKind, Component, OrJoin, Pattern, RuleCall,
    SourceName, Variable,
};
use crate::edn::{Edn, Form};
use crate::error::Error;
use crate::span::Span;

/// Symbols that begin a clause of their own, so that no rule can have their name.
pub(super) const RESERVED: [&str; 5] = ["and", "not", "not-join", "or", "or-join"];

impl Parser<'_> {
    /// A conjunction; `and` inside it is taken apart.
    pub(super) fn clauses(self, forms: &[Form]) -> Result<Vec<Clause>, Error> {
        let mut clauses = Vec::with_capacity(forms.len());
        for form in forms {
            self.add_clause(form, &mut clauses)?;
        }
        Ok(clauses)
    }

    fn add_clause(self, form: &Form, clauses: &mut Vec<Clause>) -> Result<(), Error> {
        let kind = match &form.edn {
            Edn::List(forms) if forms.first().is_some_and(|head| is_symbol(head, "and")) => {
                let inner = self.some(&forms[1..], "a clause after `and`", form.span)?;
                for form in inner {
                    self.add_clause(form, clauses)?;
                }
                return Ok(());
            }
            Edn::List(forms) if !forms.is_empty() => self.connective(forms, form.span)?,
            Edn::Vector(forms) => match forms.first() {
                Some(head) if head.as_list().is_some() && quoted(head).is_none() => {
                    ClauseKind::Call(self.call(head, &forms[1..])?)
                }
                _ => ClauseKind::Pattern(self.pattern(forms, form)?),
            },
            _ => return Err(self.expected("a clause, `[…]` or `(…)`", form)),
        };
        clauses.push(Clause {
            kind,
            span: form.span,
        });
        Ok(())
    }

    /// The forms, of which there must be one at least.
    fn some<'f>(self, forms: &'f [Form], what: &str, span: Span) -> Result<&'f [Form], Error> {
        if forms.is_empty() {
            return Err(self.error(format!("expected {what}"), span));
        }
        Ok(forms)
    }

    /// `[$source? e a v tx added]`
    fn pattern(self, forms: &[Form], whole: &Form) -> Result<Pattern, Error> {
        let (source, components) = match forms {
            [first, rest @ ..] if source(first).is_some() => (source(first), rest),
            _ => (None, forms),
        };
        let components = match components {
            [] if forms.is_empty() => {
                return Err(self.expected("a pattern such as `[?e :attribute ?v]`", whole));
            }
            [] => {
                let message = "expected a pattern after the source: `[$ ?e :attribute ?v]`";
                return Err(self.error(message, whole.span));
            }
            components => self.components(components)?,
        };
        Ok(Pattern { source, components })
    }

    fn components(self, forms: &[Form]) -> Result<Vec<Component>, Error> {
        forms.iter().map(|form| self.component(form)).collect()
    }

    fn component(self, form: &Form) -> Result<Component, Error> {
        if let Some(variable) = variable(form) {
            return Ok(Component::Variable(variable, form.span));
        }
        if is_symbol(form, "_") {
            return Ok(Component::Blank(form.span));
        }
        if source(form).is_some() {
            let what = "a variable, `_` or a constant; a source stands in the first place";
            let message = format!("expected {what}, found {}", describe(form));
            return Err(self.error(message, form.span));
        }
        Ok(Component::Constant(self.constant(form)?))
    }

    /// A constant, without its quote. A list is one if it is quoted, or cannot be meant as a call.
    pub(super) fn constant(self, form: &Form) -> Result<Form, Error> {
        if let Some(form) = quoted(form) {
            return Ok(form.clone());
        }
        let head = form.as_list().and_then(<[Form]>::first);
        if head.is_some_and(|head| head.as_symbol().is_some()) {
            let message = "a call stands in a clause of its own, `[(f ?x) ?y]`; \
                           a list that is a constant is quoted, `'(…)`";
            return Err(self.error(message, form.span));
        }
        Ok(form.clone())
    }

    /// `(f ?x) binding?`
    fn call(self, call: &Form, rest: &[Form]) -> Result<Call, Error> {
        let Some([function, arguments @ ..]) = call.as_list() else {
            return Err(self.expected("a call such as `(f ?x)`", call));
        };
        let binding = match rest {
            [] => None,
            [binding] => Some(self.binding(binding)?),
            [_, second, ..] => {
                let message = format!(
                    "a call has one binding, such as `[?x ?y]` for a tuple; found {} after it",
                    describe(second)
                );
                return Err(self.error(message, second.span));
            }
        };
        Ok(Call {
            function: self.callee("the name of a function", function)?,
            arguments: self.arguments(arguments)?,
            binding,
        })
    }

    /// The name of what is called, or the input that holds it.
    pub(super) fn callee(self, what: &str, form: &Form) -> Result<Callee, Error> {
        let name = match (variable(form), plain_symbol(form)) {
            (Some(variable), _) => CalleeName::Variable(variable),
            (_, Some(symbol)) => CalleeName::Symbol(symbol.clone()),
            _ => return Err(self.expected(what, form)),
        };
        Ok(Callee {
            name,
            span: form.span,
        })
    }

    pub(super) fn arguments(self, forms: &[Form]) -> Result<Vec<Argument>, Error> {
        forms.iter().map(|form| self.argument(form)).collect()
    }

    fn argument(self, form: &Form) -> Result<Argument, Error> {
        if let Some(variable) = variable(form) {
            return Ok(Argument::Variable(variable, form.span));
        }
        if let Some(source) = source(form) {
            return Ok(Argument::Source(source, form.span));
        }
        if is_symbol(form, "_") {
            return Err(self.error("`_` has no value to call a function with", form.span));
        }
        Ok(Argument::Constant(self.constant(form)?))
    }

    /// `($source? not …)`, or `or`, or a rule; `and` is taken apart before.
    fn connective(self, forms: &[Form], span: Span) -> Result<ClauseKind, Error> {
        let (source, forms) = match forms {
            [first, rest @ ..] if source(first).is_some() => (source(first), rest),
            _ => (None, forms),
        };
        let Some((head, rest)) = forms.split_first() else {
            return Err(self.error("expected a clause after the source", span));
        };
        let Some(name) = plain_symbol(head) else {
            return Err(self.expected("`not`, `or`, `and` or the name of a rule", head));
        };
        match name.as_str() {
            "not" => self.not(source, None, rest, "not", span),
            "not-join" => {
                let (vars, rest) = self.join(rest, "not-join", span)?;
                let OrJoin { required, free } = vars;
                let join = required.into_iter().chain(free).collect();
                self.not(source, Some(join), rest, "not-join", span)
            }
            "or" => self.or(source, None, rest, "or", span),
            "or-join" => {
                let (join, rest) = self.join(rest, "or-join", span)?;
                self.or(source, Some(join), rest, "or-join", span)
            }
            "and" => {
                let message = "a source stands before `not`, `or` or a rule, not before `and`";
                Err(self.error(message, span))
            }
            _ => {
                let arguments = self.some(rest, "an argument of the rule", span)?;
                Ok(ClauseKind::Rule(RuleCall {
                    source,
                    name: name.clone(),
                    name_span: head.span,
                    arguments: self.components(arguments)?,
                }))
            }
        }
    }

    fn not(
        self,
        source: Option<SourceName>,
        join: Option<Vec<Variable>>,
        forms: &[Form],
        name: &str,
        span: Span,
    ) -> Result<ClauseKind, Error> {
        let what = format!("a clause in `{name}`");
        let clauses = self.clauses(self.some(forms, &what, span)?)?;
        Ok(ClauseKind::Not {
            source,
            join,
            clauses,
        })
    }

    fn or(
        self,
        source: Option<SourceName>,
        join: Option<OrJoin>,
        forms: &[Form],
        name: &str,
        span: Span,
    ) -> Result<ClauseKind, Error> {
        let what = format!("a branch in `{name}`");
        let forms = self.some(forms, &what, span)?;
        let branch = |form| self.clauses(std::slice::from_ref(form));
        let branches: Result<_, _> = forms.iter().map(branch).collect();
        Ok(ClauseKind::Or {
            source,
            join,
            branches: branches?,
        })
    }

    /// The variables of `not-join` or `or-join`, and what follows them.
    fn join<'f>(
        self,
        forms: &'f [Form],
        name: &str,
        span: Span,
    ) -> Result<(OrJoin, &'f [Form]), Error> {
        let Some((head, rest)) = forms.split_first() else {
            let message = format!("expected a vector of variables after `{name}`");
            return Err(self.error(message, span));
        };
        let Some(variables) = head.as_vector().filter(|forms| !forms.is_empty()) else {
            let what = format!("a vector of variables after `{name}`");
            return Err(self.expected(&what, head));
        };
        let (required, free) = match variables {
            [first, free @ ..] if first.as_vector().is_some() => (self.required(first)?, free),
            free => (Vec::new(), free),
        };
        let join = OrJoin {
            required,
            free: self.variables(free)?,
        };
        Ok((join, rest))
    }

    /// The vector of required variables that may begin those of an `or-join` or of a rule.
    pub(super) fn required(self, form: &Form) -> Result<Vec<Variable>, Error> {
        match form.as_vector() {
            Some(forms) if !forms.is_empty() => self.variables(forms),
            _ => Err(self.expected("a vector of required variables", form)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ast::Query;

    fn join<T>(parts: &[T], show: impl Fn(&T) -> String) -> String {
        parts.iter().map(show).collect::<Vec<_>>().join(" ")
    }

    fn component(component: &Component) -> String {
        match component {
            Component::Variable(variable, _) => variable.to_string(),
            Component::Blank(_) => "_".to_owned(),
            Component::Constant(form) => format!("<{form}>"),
        }
    }

    fn argument(argument: &Argument) -> String {
        match argument {
            Argument::Variable(variable, _) => variable.to_string(),
            Argument::Source(source, _) => format!("source:{source}"),
            Argument::Constant(form) => format!("<{form}>"),
        }
    }

    fn show(clause: &Clause) -> String {
        let at = |source: &Option<SourceName>| match source {
            Some(source) => format!("{source}:"),
            None => String::new(),
        };
        match &clause.kind {
            ClauseKind::Pattern(pattern) => {
                let components = join(&pattern.components, component);
                format!("{}[{components}]", at(&pattern.source))
            }
            ClauseKind::Call(call) => {
                let function = match &call.function.name {
                    CalleeName::Symbol(symbol) => symbol.to_string(),
                    CalleeName::Variable(variable) => format!("value of {variable}"),
                };
                let arguments = join(&call.arguments, argument);
                match &call.binding {
                    None => format!("call {function}({arguments})"),
                    Some(binding) => {
                        let variables = join(&binding.variables(), ToString::to_string);
                        format!("call {function}({arguments})={variables}")
                    }
                }
            }
            ClauseKind::Rule(rule) => {
                let arguments = join(&rule.arguments, component);
                format!("{}rule {}({arguments})", at(&rule.source), rule.name)
            }
            ClauseKind::Not {
                source,
                join: on,
                clauses,
            } => {
                let on = on.as_ref().map_or_else(String::new, |variables| {
                    format!(" on {}", join(variables, ToString::to_string))
                });
                format!("{}not{on}({})", at(source), join(clauses, show))
            }
            ClauseKind::Or {
                source,
                join: on,
                branches,
            } => {
                let on = on.as_ref().map_or_else(String::new, |on| {
                    let required = join(&on.required, ToString::to_string);
                    format!(" on {required}|{}", join(&on.free, ToString::to_string))
                });
                let branches = branches.iter().map(|branch| join(branch, show));
                let branches: Vec<_> = branches.collect();
                format!("{}or{on}({})", at(source), branches.join(" | "))
            }
        }
    }

    fn parse(text: &str) -> Result<String, Error> {
        let query = Query::parse(&format!("[:find ?x :where {text}]"))?;
        Ok(join(&query.clauses, show))
    }

    #[track_caller]
    fn assert_parses(cases: &[(&str, &str)]) {
        for (text, expected) in cases {
            match parse(text) {
                Ok(shown) => assert_eq!(shown, *expected, "{text}"),
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[track_caller]
    fn assert_refused(cases: &[(&str, &str)]) {
        for (text, expected) in cases {
            let error = parse(text).expect_err(text);
            assert_eq!(error.message(), *expected, "{text}");
        }
    }

    #[test]
    fn patterns_have_components_of_any_number_and_kind() {
        assert_parses(&[
            ("[?e :a ?v ?tx true]", "[?e <:a> ?v ?tx <true>]"),
            ("[_ ?a \"x\"]", "[_ ?a <\"x\">]"),
            ("[$s ?e]", "$s:[?e]"),
            ("[$ [:a 1] :b]", "$:[<[:a 1]> <:b>]"),
            ("[?a ?b ?c ?d ?e ?f ?g]", "[?a ?b ?c ?d ?e ?f ?g]"),
            ("[?e :a red] ['x _]", "[?e <:a> <red>] [<x> _]"),
            (
                "[?e :a '?v] [?e :a (1 2)]",
                "[?e <:a> <?v>] [?e <:a> <(1 2)>]",
            ),
        ]);
        assert_refused(&[
            (
                "[]",
                "expected a pattern such as `[?e :attribute ?v]`, found an empty vector",
            ),
            (
                "[$]",
                "expected a pattern after the source: `[$ ?e :attribute ?v]`",
            ),
            (
                "[?e $ :a]",
                "expected a variable, `_` or a constant; a source stands in the first place, found `$`",
            ),
            (
                "[?e :a (inc ?x)]",
                "a call stands in a clause of its own, `[(f ?x) ?y]`; a list that is a constant is quoted, `'(…)`",
            ),
            ("?e", "expected a clause, `[…]` or `(…)`, found `?e`"),
        ]);
    }

    #[test]
    fn calls_have_arguments_and_perhaps_a_binding() {
        assert_parses(&[
            ("[(< ?a 5)]", "call <(?a <5>)"),
            ("[(rand) ?x]", "call rand()=?x"),
            (
                "[(get-else $ ?e :a 0) ?v]",
                "call get-else(source:$ ?e <:a> <0>)=?v",
            ),
            ("[(ground 'x) ?v]", "call ground(<x>)=?v"),
            ("[(ground [1 2]) [?v ...]]", "call ground(<[1 2]>)=?v"),
            ("[(f ?x) [[?a _ ?b]]]", "call f(?x)=?a ?b"),
            ("[(?pred ?x)]", "call value of ?pred(?x)"),
            ("[(.startsWith ?s \"a\")]", "call .startsWith(?s <\"a\">)"),
            ("[(/ ?a ?b) ?c]", "call /(?a ?b)=?c"),
            (
                "[(q '[:find ?x] $ %) ?y]",
                "call q(<[:find ?x]> source:$ <%>)=?y",
            ),
        ]);
        assert_refused(&[
            (
                "[()]",
                "expected a call such as `(f ?x)`, found an empty list",
            ),
            ("[(1 ?x)]", "expected the name of a function, found a long"),
            ("[($ ?x)]", "expected the name of a function, found `$`"),
            ("[(f _)]", "`_` has no value to call a function with"),
            (
                "[(f ?x) ?y ?z]",
                "a call has one binding, such as `[?x ?y]` for a tuple; found `?z` after it",
            ),
            (
                "[(f (g ?x)) ?y]",
                "a call stands in a clause of its own, `[(f ?x) ?y]`; a list that is a constant is quoted, `'(…)`",
            ),
        ]);
    }

    #[test]
    fn negations_hold_clauses() {
        assert_parses(&[
            ("(not [?e :a] [?e :b])", "not([?e <:a>] [?e <:b>])"),
            (
                "(not (and [?e :a] (and [?e :b])))",
                "not([?e <:a>] [?e <:b>])",
            ),
            ("(not-join [?e] [?e :a ?v])", "not on ?e([?e <:a> ?v])"),
            (
                "(not-join [[?e] ?f] [?e :a ?f])",
                "not on ?e ?f([?e <:a> ?f])",
            ),
            ("($s not [?e :a])", "$s:not([?e <:a>])"),
            (
                "($ not-join [?e] (not [?e :a]))",
                "$:not on ?e(not([?e <:a>]))",
            ),
        ]);
        assert_refused(&[
            ("(not)", "expected a clause in `not`"),
            (
                "(not-join)",
                "expected a vector of variables after `not-join`",
            ),
            ("(not-join [?e])", "expected a clause in `not-join`"),
            (
                "(not-join [] [?e :a])",
                "expected a vector of variables after `not-join`, found an empty vector",
            ),
            (
                "(not-join ?e [?e :a])",
                "expected a vector of variables after `not-join`, found `?e`",
            ),
            ("(not-join [e] [?e :a])", "expected a variable, found `e`"),
        ]);
    }

    #[test]
    fn disjunctions_hold_branches() {
        assert_parses(&[
            (
                "(or [?e :a] (and [?e :b] [?e :c]))",
                "or([?e <:a>] | [?e <:b>] [?e <:c>])",
            ),
            (
                "(or (or [?e :a]) (not [?e :b]))",
                "or(or([?e <:a>]) | not([?e <:b>]))",
            ),
            ("(or-join [?e] [?e :a])", "or on |?e([?e <:a>])"),
            (
                "(or-join [[?a ?b] ?c] [?a ?b ?c])",
                "or on ?a ?b|?c([?a ?b ?c])",
            ),
            ("(or-join [[?a]] [?a])", "or on ?a|([?a])"),
            ("($s or [?e :a])", "$s:or([?e <:a>])"),
            ("($s or-join [?e] [?e :a])", "$s:or on |?e([?e <:a>])"),
        ]);
        assert_refused(&[
            ("(or)", "expected a branch in `or`"),
            ("(or-join [?e])", "expected a branch in `or-join`"),
            (
                "(or-join [[] ?e] [?e :a])",
                "expected a vector of required variables, found an empty vector",
            ),
            (
                "(or-join [?e [?f]] [?e :a])",
                "expected a variable, found a vector",
            ),
        ]);
    }

    #[test]
    fn conjunctions_are_taken_apart() {
        assert_parses(&[(
            "(and [?e :a] (and [?e :b]) [?e :c])",
            "[?e <:a>] [?e <:b>] [?e <:c>]",
        )]);
        assert_refused(&[
            ("(and)", "expected a clause after `and`"),
            ("(or [?e :a] (and))", "expected a clause after `and`"),
            (
                "($s and [?e :a])",
                "a source stands before `not`, `or` or a rule, not before `and`",
            ),
        ]);
    }

    #[test]
    fn other_lists_are_rules() {
        assert_parses(&[
            ("(ancestor ?a 1 _)", "rule ancestor(?a <1> _)"),
            ("($s ns/rule ?a 'b)", "$s:rule ns/rule(?a <b>)"),
        ]);
        assert_refused(&[
            (
                "()",
                "expected a clause, `[…]` or `(…)`, found an empty list",
            ),
            ("($s)", "expected a clause after the source"),
            ("(rule)", "expected an argument of the rule"),
            (
                "(?r ?x)",
                "expected `not`, `or`, `and` or the name of a rule, found `?r`",
            ),
            (
                "((f ?x) ?y)",
                "expected `not`, `or`, `and` or the name of a rule, found a list",
            ),
            (
                "(rule $ ?x)",
                "expected a variable, `_` or a constant; a source stands in the first place, found `$`",
            ),
        ]);
    }

    #[test]
    fn the_deepest_nesting_fits_the_stack() {
        let depth = crate::edn::DEPTH_MAX - 2;
        let text = format!("{}[?e :a]{}", "(not ".repeat(depth), ")".repeat(depth));
        assert!(parse(&text).is_ok());
        let text = format!(
            "{}?e{}",
            "(or (and ".repeat(depth / 2),
            "))".repeat(depth / 2)
        );
        assert!(parse(&text).is_err());
        let depth = depth + 1;
        let text = format!("[(f) {}?x{}]", "[".repeat(depth - 1), "]".repeat(depth - 1));
        assert!(parse(&text).is_ok());
    }
}
