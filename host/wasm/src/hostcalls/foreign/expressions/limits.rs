//! What an expression may cost: its depth before it is parsed, since parsing and evaluating use the stack, and its work
//! before it is kept, since nothing stops an evaluation.

use cel::IdedExpr;
use cel::common::ast::operators::CONDITIONAL;
use cel::common::ast::{EntryExpr, Expr, LiteralValue};

/// Longest text in bytes.
const MAX_TEXT: usize = 4096;

/// Deepest nesting of operands; longer chains like `a + b + c` count as deep.
const MAX_NESTING: usize = 32;

/// Most steps at worst. A step is about a microsecond.
const MAX_STEPS: u64 = 50_000;

/// How long a list or map may be that is not written in the expression: a header map, mostly.
const ASSUMED_LENGTH: u64 = 128;

/// What a regular expression counts as: it is compiled each time.
const REGEX_STEPS: u64 = 2_000;

/// Longest regular expression. It must be written in the expression: a client's could be made to take long.
const MAX_REGEX: usize = 512;

/// True when the text is short, its strings are closed, and it cannot nest deeper than [`MAX_NESTING`].
pub(super) fn may_parse(text: &str) -> bool {
    if text.is_empty() || text.len() > MAX_TEXT {
        return false;
    }
    // One counter for each open bracket: operators since the last comma or logical operator.
    let (mut open, mut deepest) = (vec![0_usize], 0);
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\'' | b'"' => match skip_string(bytes, at) {
                Some(end) => at = end,
                None => return false,
            },
            b'/' if bytes.get(at + 1) == Some(&b'/') => return false,
            b'(' | b'[' | b'{' => open.push(0),
            b')' | b']' | b'}' => {
                if open.len() > 1 {
                    open.pop();
                }
                count(&mut open);
            }
            b',' | b'&' | b'|' => reset(&mut open),
            b'.' | b'+' | b'-' | b'*' | b'/' | b'%' | b'=' | b'<' | b'>' | b'!' | b'?' | b':' | b' ' | b'\n'
            | b'\t' => {
                // Blanks stand for words like `in`.
                count(&mut open);
            }
            _ => {}
        }
        at += 1;
        deepest = deepest.max(open.iter().sum::<usize>() / 2 + open.len());
    }
    deepest <= MAX_NESTING
}

fn count(open: &mut [usize]) {
    if let Some(last) = open.last_mut() {
        *last += 1;
    }
}

fn reset(open: &mut [usize]) {
    if let Some(last) = open.last_mut() {
        *last = 0;
    }
}

/// The place of the quote that closes the string opened at `at`.
fn skip_string(bytes: &[u8], at: usize) -> Option<usize> {
    let quote = bytes[at];
    let before = |back: usize| at.checked_sub(back).map(|at| bytes[at].to_ascii_lowercase());
    let raw = before(1) == Some(b'r') || (before(1) == Some(b'b') && before(2) == Some(b'r'));
    let triple = bytes.get(at..at + 3) == Some(&[quote; 3]);
    let closing: &[u8] = if triple { &[quote; 3] } else { &[quote] };
    let mut end = at + closing.len();
    while end < bytes.len() {
        match bytes[end] {
            b'\\' if !raw => end += 1,
            b'\n' | b'\r' if !triple => return None,
            _ if bytes[end..].starts_with(closing) => return Some(end + closing.len() - 1),
            _ => {}
        }
        end += 1;
    }
    None
}

/// True when evaluating takes at most [`MAX_STEPS`] steps.
pub(super) fn may_run(expression: &IdedExpr) -> bool {
    cost(expression).is_some_and(|cost| cost.steps <= MAX_STEPS)
}

/// What an expression costs at worst.
#[derive(Clone, Copy)]
struct Cost {
    steps: u64,
    /// How long its value may be, if that is a list or a map.
    length: u64,
}

/// None: refused whatever it costs.
fn cost(expression: &IdedExpr) -> Option<Cost> {
    let leaf = Cost { steps: 1, length: ASSUMED_LENGTH };
    match &expression.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Some(leaf),
        Expr::Select(select) => Some(Cost { steps: cost(&select.operand)?.steps + 1, ..leaf }),
        Expr::List(list) => Some(Cost { length: list.elements.len() as u64, ..total(&costs(&list.elements)?) }),
        Expr::Map(map) => entries(map.entries.iter().map(|entry| &entry.expr)),
        Expr::Struct(of) => entries(of.entries.iter().map(|entry| &entry.expr)),
        Expr::Call(call) => {
            let own = if call.func_name == "matches" { regex(call.args.last()?)? } else { 1 };
            let target = call.target.as_deref().map(cost);
            let mut parts = costs(&call.args)?;
            let longest = parts.iter().skip(1).map(|part| part.length).max().unwrap_or_default();
            if let Some(target) = target {
                parts.push(target?);
            }
            let sum = total(&parts);
            let length = if call.func_name == CONDITIONAL { longest } else { sum.length };
            Some(Cost { steps: sum.steps.saturating_add(own), length })
        }
        Expr::Comprehension(loops) => {
            let [range, condition, step] = [&loops.iter_range, &loops.loop_cond, &loops.loop_step].map(cost);
            let (range, step) = (range?, step?);
            let around = total(&[range, cost(&loops.accu_init)?, cost(&loops.result)?]);
            let each = total(&[condition?, step]).steps;
            // What is collected: each round may add as much as its step is longer than what was there.
            let grown = step.length.saturating_sub(ASSUMED_LENGTH).max(1);
            let steps = each.saturating_mul(range.length).saturating_add(around.steps);
            Some(Cost { steps, length: range.length.saturating_mul(grown) })
        }
    }
}

/// Each one's cost, asked once: asking again at each level would take exponential time.
fn costs(expressions: &[IdedExpr]) -> Option<Vec<Cost>> {
    expressions.iter().map(cost).collect()
}

/// All of them and one step.
fn total(costs: &[Cost]) -> Cost {
    costs.iter().fold(Cost { steps: 1, length: 0 }, |sum, cost| Cost {
        steps: sum.steps.saturating_add(cost.steps),
        length: sum.length.saturating_add(cost.length),
    })
}

fn entries<'a>(entries: impl Iterator<Item = &'a EntryExpr>) -> Option<Cost> {
    let mut sum = Cost { steps: 1, length: 0 };
    for entry in entries {
        let steps = match entry {
            EntryExpr::StructField(field) => cost(&field.value)?.steps,
            EntryExpr::MapEntry(entry) => cost(&entry.key)?.steps.saturating_add(cost(&entry.value)?.steps),
        };
        sum = Cost { steps: sum.steps.saturating_add(steps), length: sum.length + 1 };
    }
    Some(sum)
}

/// What matching costs; none for a pattern that is too long or not written in the expression.
fn regex(pattern: &IdedExpr) -> Option<u64> {
    match &pattern.expr {
        Expr::Literal(LiteralValue::String(text)) if text.inner().len() <= MAX_REGEX => Some(REGEX_STEPS),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use cel::Program;
    use proptest::prelude::proptest;

    use super::*;

    fn runs(text: &str) -> bool {
        may_parse(text) && may_run(Program::compile(text).unwrap().expression())
    }

    #[test]
    fn what_filters_write_is_taken() {
        assert!(runs("request.path.startsWith('/api') && request.headers['x-env'] in ['a', 'b', 'c']"));
        assert!(runs("has(request.headers.auth) ? request.headers.auth == 'x' : source.port > 1024"));
        assert!(runs("['/a', '/b', '/c'].exists(p, request.path.startsWith(p))"));
        assert!(runs(r"request.path.matches('^/v[0-9]+/') || request.query.contains('a=\'b')"));
        let clauses: Vec<_> = (0..60).map(|n| format!("request.headers['x-{n}'] == 'y'")).collect();
        assert!(runs(&clauses.join(" || ")));
    }

    #[test]
    fn what_nests_deep_or_runs_long_is_refused() {
        let deep = ["(".repeat(60), "a".to_owned(), ")".repeat(60)].concat();
        for text in [deep, format!("a{}", "+a".repeat(300)), format!("a{}", ".b".repeat(300)), "!".repeat(300) + "a"] {
            assert!(!may_parse(&text), "{text}");
        }
        for hidden in ["'\n' + a", "'a", "// ' \n a", "r'\\' + 'a", &"a".repeat(MAX_TEXT + 1), ""] {
            assert!(!may_parse(hidden), "{hidden}");
        }
        assert!(!runs("a.all(x, a.all(y, a.all(z, x == y)))"));
        assert!(!runs("a.map(x, a).all(y, y.all(z, z.all(w, w == x)))"));
        assert!(!runs("'x'.matches(request.headers['pattern'])"));
    }

    #[test]
    fn the_deepest_that_is_taken_runs_on_a_worker_s_stack() {
        let deepest = |text: &dyn Fn(usize) -> String| text((0..200).rev().find(|n| may_parse(&text(*n))).unwrap());
        let texts = [
            deepest(&|n| "(".repeat(n) + "1" + &")".repeat(n)),
            deepest(&|n| "[".repeat(n) + "1" + &"]".repeat(n)),
            deepest(&|n| format!("1{}", "+1".repeat(n))),
            deepest(&|n| format!("{{}}{}", "==1".repeat(n))),
            deepest(&|n| format!("a{}", ".b".repeat(n))),
            deepest(&|n| "-".repeat(n) + "1"),
            deepest(&|n| "true?1:".repeat(n) + "1"),
            deepest(&|n| "[1].all(x,".repeat(n) + "true" + &")".repeat(n)),
        ];
        let run = move || {
            for text in texts {
                let Ok(program) = Program::compile(&text) else { continue };
                may_run(program.expression());
                let _ = program.execute(&cel::Context::default());
            }
        };
        std::thread::Builder::new().stack_size(1_500_000).spawn(run).unwrap().join().unwrap();
    }

    proptest! {
        #[test]
        fn looking_never_panics(text in "[ab()+.!?:'\\[\\], &|-]{0,200}") {
            if may_parse(&text)
                && let Ok(Ok(program)) = std::panic::catch_unwind(|| Program::compile(&text))
            {
                may_run(program.expression());
            }
        }
    }
}
