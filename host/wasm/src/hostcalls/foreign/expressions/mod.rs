//! `expr_create`, `expr_evaluate`, `expr_delete`: CEL over the attributes of a stream, as in Envoy.
//!
//! Expressions are a plugin's own words, the values they meet are the client's. So each is bounded when it is made, by
//! what it could cost at worst (`limits`), and evaluating needs no watch.

mod limits;
mod values;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use cel::{Context, Env, Program, Value};

use crate::abi::Status;
use crate::guest::Answer;
use crate::host_state::HostState;
use crate::stream::{StreamHost, StreamState};

/// Most expressions that a VM keeps at a time.
const MAX_EXPRESSIONS: usize = 256;

/// A VM's expressions by their token, which is their place in the list.
#[derive(Default)]
pub(crate) struct Expressions(Vec<Option<Expression>>);

pub(super) struct Expression {
    program: Program,
    /// The variables that it names.
    variables: Vec<String>,
}

/// A condition on streams in CEL over Envoy's attributes, as access logs filter with. Bounded as filters' expressions are.
pub struct Condition(Expression);

impl Condition {
    /// None when the text is no CEL, or could cost too much.
    pub fn compile(text: &str) -> Option<Self> {
        compile(text).map(Self)
    }

    /// True when the expression is true; an attribute that is absent now makes it fail, and so not true.
    pub fn holds<H: StreamHost>(&self, stream: &StreamState<H>) -> bool {
        matches!(self.0.value(stream), Some(Value::Bool(true)))
    }

    /// The value as a text; none when it fails, or is neither text nor a number nor a truth.
    pub fn text<H: StreamHost>(&self, stream: &StreamState<H>) -> Option<String> {
        match self.0.value(stream)? {
            Value::String(text) => Some(text.to_string()),
            Value::Int(number) => Some(number.to_string()),
            Value::UInt(number) => Some(number.to_string()),
            Value::Float(number) => Some(number.to_string()),
            Value::Bool(truth) => Some(truth.to_string()),
            _ => None,
        }
    }
}

impl std::fmt::Debug for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Condition").finish_non_exhaustive()
    }
}

impl Expression {
    /// None when it fails.
    fn value(&self, source: &impl values::Source) -> Option<Value> {
        let mut context = Context::with_env(environment());
        for name in &self.variables {
            if let Some(value) = values::variable(source, name) {
                context.add_variable_from_value(name.as_str(), value);
            }
        }
        guarded(|| self.program.execute(&context))?.ok()
    }
}

/// `expr_create`: takes the text, answers with a token of 4 bytes. BAD_ARGUMENT when it is no CEL or could cost too much;
/// INTERNAL_FAILURE when there are 256 already.
pub(super) fn create<H: StreamHost>(state: &mut HostState<H>, args: &[u8], value: &mut Vec<u8>) -> Answer {
    let text = std::str::from_utf8(args).map_err(|_| Status::BadArgument)?;
    let expressions = &mut state.expressions.0;
    let free = expressions.iter().position(Option::is_none);
    if free.is_none() && expressions.len() == MAX_EXPRESSIONS {
        return Err(Status::InternalFailure);
    }
    let expression = compile(text).ok_or(Status::BadArgument)?;
    let token = free.unwrap_or(expressions.len());
    match expressions.get_mut(token) {
        Some(slot) => *slot = Some(expression),
        None => expressions.push(Some(expression)),
    }
    value.extend_from_slice(&(token as u32).to_le_bytes());
    Ok(())
}

/// `expr_evaluate`: takes a token, answers with the value as properties are written. An unknown token is NOT_FOUND; an
/// expression that fails, for instance by an attribute that is absent now, INTERNAL_FAILURE.
pub(super) fn evaluate<H: StreamHost>(state: &mut HostState<H>, args: &[u8], value: &mut Vec<u8>) -> Answer {
    let token = token(args)?;
    let expression = state.expressions.0.get(token).and_then(Option::as_ref).ok_or(Status::NotFound)?;
    let result = expression.value(state).ok_or(Status::InternalFailure)?;
    if values::serialize(&result, value) { Ok(()) } else { Err(Status::SerializationFailure) }
}

/// `expr_delete`: OK for unknown tokens too.
pub(super) fn delete<H: StreamHost>(state: &mut HostState<H>, args: &[u8]) -> Answer {
    let token = token(args)?;
    if let Some(slot) = state.expressions.0.get_mut(token) {
        *slot = None;
    }
    Ok(())
}

fn token(args: &[u8]) -> Result<usize, Status> {
    let bytes = <[u8; 4]>::try_from(args).map_err(|_| Status::BadArgument)?;
    Ok(u32::from_le_bytes(bytes) as usize)
}

pub(super) fn compile(text: &str) -> Option<Expression> {
    if !limits::may_parse(text) {
        return None;
    }
    let program = guarded(|| environment().compile(text))?.ok()?;
    if !limits::may_run(program.expression()) {
        return None;
    }
    let variables = program.references().variables().into_iter().map(str::to_owned).collect();
    Some(Expression { program, variables })
}

/// The standard functions; no extension.
fn environment() -> Arc<Env> {
    static ENVIRONMENT: OnceLock<Arc<Env>> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| Arc::new(Env::stdlib())).clone()
}

/// A panic of the library costs this call, not the worker.
fn guarded<R>(run: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(run)).ok()
}
