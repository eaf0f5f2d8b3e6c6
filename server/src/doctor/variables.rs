//! Environment variables that look like the server's and are not.

use cubesync_arguments::{UnknownVariable, unknown_variables};

use super::Finding;

pub(super) fn examine() -> Vec<Finding> {
    unknown_variables().iter().map(judge).collect()
}

fn judge(variable: &UnknownVariable) -> Finding {
    let advice = match variable.meant {
        Some(meant) => format!("did you mean {meant}?"),
        None => "unset it; --help names all variables".to_owned(),
    };
    let name = &variable.name;
    let summary = format!("the environment variable {name} has no effect");
    Finding::problem("variable", summary, advice)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_variable_without_effect_is_a_problem() {
        let name = "CUBESYNC_JOINKEY".to_owned();
        let meant = Some("CUBESYNC_JOIN_KEY");
        let finding = judge(&UnknownVariable { name, meant });
        assert_eq!(finding.verdict, Verdict::Problem);
        assert!(finding.summary.contains("CUBESYNC_JOINKEY"), "{finding:?}");
        assert_eq!(finding.advice, "did you mean CUBESYNC_JOIN_KEY?");
    }
}
