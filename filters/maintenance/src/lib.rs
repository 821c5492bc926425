//! The bundled filter `maintenance`: answers in the place of a service that is down on purpose.

pub mod accept;
mod config;
pub mod schedule;
mod switch;

use config::{Config, Settings};
use portolan_sdk::metrics::Counter;
use portolan_sdk::prelude::*;
use schedule::{Instant, Window};

/// The filter.
pub struct Maintenance {
    settings: Settings,
    answered: Counter,
}

/// Why it is on.
enum Reason {
    /// Until somebody turns it off.
    Told,
    /// Until the window's end.
    Window(Window, Instant),
}

impl Filter for Maintenance {
    type Config = Config;
    type Stream = ();

    /// A service that is worked on must not get requests.
    const ON_ERROR: OnError = OnError::Fail;

    fn configure(config: Config) -> Result<Self, ConfigError> {
        Ok(Self { settings: config.settings()?, answered: Counter::define("maintenance_answered_total")? })
    }

    fn stream(&self) {}

    fn on_request_headers(&self, _: &mut (), request: &Request<'_>) -> Result<Action, HostError> {
        if let Some(switch) = &self.settings.switch
            && request.path()? == switch.path.as_bytes()
        {
            return switch.turn(request);
        }
        match self.reason()? {
            Some(reason) if !self.lets_through(request)? => self.answer(request, &reason),
            _ => Ok(Action::Continue),
        }
    }
}

impl Maintenance {
    fn reason(&self) -> Result<Option<Reason>, HostError> {
        let Settings { enabled, windows, switch, .. } = &self.settings;
        if *enabled || (switch.is_some() && switch::is_on()?) {
            return Ok(Some(Reason::Told));
        }
        if windows.is_empty() {
            return Ok(None);
        }
        let seconds = portolan_sdk::now()? / 1_000_000_000;
        let now = Instant(i64::try_from(seconds).unwrap_or(i64::MAX));
        Ok(windows.iter().find(|window| window.holds(now)).map(|window| Reason::Window(*window, now)))
    }

    fn lets_through(&self, request: &Request<'_>) -> Result<bool, HostError> {
        let allow = &self.settings.allow;
        if !allow.addresses.is_empty() && allow.trusted_hops.of(request)?.is_some_and(|ip| allow.addresses.contains(ip))
        {
            return Ok(true);
        }
        for condition in &allow.requests {
            if condition.holds(request)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn answer(&self, request: &Request<'_>, reason: &Reason) -> Result<Action, HostError> {
        self.answered.increment()?;
        let Settings { status, retry_after, pages, .. } = &self.settings;
        let until_end = match reason {
            Reason::Told => None,
            Reason::Window(window, now) => u64::try_from(window.to.0 - now.0).ok(),
        };
        let retry_after = retry_after.or(until_end).map(|seconds| seconds.to_string());
        let forms: Vec<_> = pages.iter().map(|(form, _)| *form).collect();
        let form = accept::choose(request.header("accept")?.unwrap_or_default(), &forms);
        let mut reply = LocalReply::new(*status).details("maintenance").header("cache-control", "no-store");
        if let Some((form, page)) = pages.iter().find(|(known, _)| Some(*known) == form) {
            reply = reply.header("content-type", form.content_type()).header("vary", "accept").body(page.as_bytes());
        }
        if let Some(seconds) = &retry_after {
            reply = reply.header("retry-after", seconds);
        }
        request.reply(&reply)
    }
}

portolan_sdk::filter! { Maintenance: schema, on_request_headers }

#[cfg(test)]
mod tests;
