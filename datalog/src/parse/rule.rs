//! Rule sets.

use std::collections::HashMap;

use super::clause::RESERVED;
use super::find::count;
use super::{Parser, is_symbol, plain_symbol, quote, source, variable};
use crate::ast::{HeadArgument, RuleBranch};
use crate::edn::{Form, Symbol};
use crate::error::Error;

impl Parser<'_> {
    /// `[[(rule ?a ?b) clause…] …]`
    pub(super) fn rules(self, form: &Form) -> Result<Vec<RuleBranch>, Error> {
        let Some(forms) = form.as_sequence() else {
            return Err(self.expected("a vector of rules", form));
        };
        let mut branches = Vec::with_capacity(forms.len());
        for form in forms {
            branches.push(self.rule(form)?);
        }
        self.check_heads(&branches)?;
        Ok(branches)
    }

    fn rule(self, form: &Form) -> Result<RuleBranch, Error> {
        let Some([head, body @ ..]) = form.as_sequence() else {
            return Err(self.expected("a rule: `[(name ?a ?b) clause …]`", form));
        };
        let Some([name, arguments @ ..]) = head.as_list() else {
            return Err(self.expected("the head of a rule: `(name ?a ?b)`", head));
        };
        let Some(name) = plain_symbol(name) else {
            return Err(self.expected("the name of a rule", name));
        };
        if RESERVED.contains(&name.as_str()) {
            let message = format!("{} cannot be the name of a rule", quote(name));
            return Err(self.error(message, head.span));
        }
        let (required, free) = match arguments {
            [] => {
                let message = format!("expected an argument in the head of {}", quote(name));
                return Err(self.error(message, head.span));
            }
            [first, free @ ..] if first.as_vector().is_some() => (self.required(first)?, free),
            free => (Vec::new(), free),
        };
        let free: Result<_, _> = free.iter().map(|form| self.head_argument(form)).collect();
        if body.is_empty() {
            let message = format!("expected a clause after the head of {}", quote(name));
            return Err(self.error(message, form.span));
        }
        Ok(RuleBranch {
            name: name.clone(),
            required,
            free: free?,
            body: self.clauses(body)?,
            span: head.span,
        })
    }

    fn head_argument(self, form: &Form) -> Result<HeadArgument, Error> {
        if let Some(variable) = variable(form) {
            return Ok(HeadArgument::Variable(variable, form.span));
        }
        if is_symbol(form, "_") || source(form).is_some() {
            return Err(self.expected("a variable or a constant", form));
        }
        Ok(HeadArgument::Constant(self.constant(form)?))
    }

    /// Checks that heads of one name agree.
    fn check_heads(self, branches: &[RuleBranch]) -> Result<(), Error> {
        let mut first: HashMap<&Symbol, &RuleBranch> = HashMap::new();
        for branch in branches {
            let before = *first.entry(&branch.name).or_insert(branch);
            let name = quote(&branch.name);
            if before.arity() != branch.arity() {
                let message = format!(
                    "{name} has {} here, but {} above",
                    count(branch.arity(), "argument"),
                    before.arity()
                );
                return Err(self.error(message, branch.span));
            }
            if before.required.len() != branch.required.len() {
                let message = format!(
                    "{name} has {} here, but {} above",
                    count(branch.required.len(), "required argument"),
                    before.required.len()
                );
                return Err(self.error(message, branch.span));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ast::RuleSet;

    #[track_caller]
    fn message(text: &str) -> String {
        RuleSet::parse(text).unwrap_err().message().to_owned()
    }

    #[test]
    fn heads_of_one_name_are_alternatives() {
        let text = "[[(anc ?a ?b) [?a :parent ?b]]
                     [(anc ?a ?b) [?a :parent ?c] (anc ?c ?b)]]";
        let rules = RuleSet::parse(text).unwrap();
        let shapes: Vec<_> = rules
            .branches
            .iter()
            .map(|b| (b.arity(), b.body.len()))
            .collect();
        assert_eq!(shapes, [(2, 1), (2, 2)]);
        let quoted = RuleSet::parse(&format!("\"{text}\"")).unwrap();
        assert_eq!(quoted.branches.len(), 2);
        assert_eq!(&*quoted.text, text);
    }

    #[test]
    fn heads_have_required_variables_and_constants() {
        let rules = RuleSet::parse("([(r [?in] ?out :k 'x ?out) [?in :a ?out]])").unwrap();
        let branch = &rules.branches[0];
        assert_eq!((branch.required.len(), branch.free.len()), (1, 4));
        assert_eq!(
            branch.free[2],
            HeadArgument::Constant(Form::from(Symbol::new("x")))
        );
        assert_eq!(
            &rules.text[branch.span.start..branch.span.end],
            "(r [?in] ?out :k 'x ?out)"
        );
    }

    #[test]
    fn a_rule_set_may_be_empty() {
        assert_eq!(RuleSet::parse("[]").unwrap().branches, []);
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for (text, expected) in [
            ("{}", "expected a vector of rules, found an empty map"),
            (
                "[1]",
                "expected a rule: `[(name ?a ?b) clause …]`, found a long",
            ),
            (
                "[[]]",
                "expected a rule: `[(name ?a ?b) clause …]`, found an empty vector",
            ),
            (
                "[(r ?a)]",
                "expected the head of a rule: `(name ?a ?b)`, found `r`",
            ),
            (
                "[[()]]",
                "expected the head of a rule: `(name ?a ?b)`, found an empty list",
            ),
            (
                "[[(?r ?a) [?a]]]",
                "expected the name of a rule, found `?r`",
            ),
            ("[[(or ?a) [?a]]]", "`or` cannot be the name of a rule"),
            ("[[(r) [?a]]]", "expected an argument in the head of `r`"),
            ("[[(r ?a)]]", "expected a clause after the head of `r`"),
            (
                "[[(r _) [?a]]]",
                "expected a variable or a constant, found `_`",
            ),
            ("[[(r [:a 1]) [?a]]]", "expected a variable, found `:a`"),
            (
                "[[(r ?a) [?a]] [(r ?a ?b) [?a ?b]]]",
                "`r` has 2 arguments here, but 1 above",
            ),
            (
                "[[(r ?a) [?a]] [(r [?a]) [?a]]]",
                "`r` has 1 required argument here, but 0 above",
            ),
        ] {
            assert_eq!(message(text), expected, "{text}");
        }
    }
}
