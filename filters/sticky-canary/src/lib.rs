//! The bundled filter `sticky-canary`: marks a share of the users for a canary, always the same ones.
//!
//! It sets a header that routes match on and lets the route be chosen anew.

pub mod config;
mod identity;
mod share;

use std::time::Duration;

use config::{Config, CookieConfig, StickyConfig, Variant};
use identity::Identity;
use portolan_filter_conditions::{Head, address};
use portolan_sdk::SetCookie;
use portolan_sdk::metrics::Counter;
use portolan_sdk::prelude::*;
use share::{ALL, Share};

/// The variant, for the access log and later filters: `canary` or `stable`.
const VARIANT_PROPERTY: &str = "canary_variant";

/// The filter.
pub struct StickyCanary {
    config: Config,
    share: Share,
    identity: Identity,
    /// Of the cookie; none: until the browser is closed.
    ttl: Option<Duration>,
    canary: Counter,
    stable: Counter,
    forced: Counter,
}

/// Whom the request comes from.
enum User {
    /// Has a place; with the cookie's value when it was made just now.
    Known(u32, Option<String>),
    /// Cannot be told from others.
    Unknown,
}

impl Filter for StickyCanary {
    type Config = Config;
    /// The value of a cookie to set.
    type Stream = Option<String>;

    fn configure(config: Config) -> Result<Self, ConfigError> {
        let requests = Counter::named("sticky_canary_requests");
        let counter = |variant| requests.with(&[("variant", variant)]);
        Ok(Self {
            share: config::read(&config)?,
            identity: Identity::new(&config.secret, &config.header.name),
            ttl: match &config.sticky {
                StickyConfig::Cookie(CookieConfig { ttl: Some(ttl), .. }) => Some(config::duration("cookie.ttl", ttl)?),
                _ => None,
            },
            canary: counter("canary")?,
            stable: counter("stable")?,
            forced: Counter::define("sticky_canary_forced")?,
            config,
        })
    }

    fn stream(&self) -> Option<String> {
        None
    }

    fn on_request_headers(&self, cookie: &mut Option<String>, request: &Request<'_>) -> Result<Action, HostError> {
        let variant = self.choose(cookie, request)?;
        match variant {
            Variant::Canary => self.canary.increment()?,
            Variant::Stable => self.stable.increment()?,
        }
        self.mark(variant, request)?;
        Ok(Action::Continue)
    }

    fn on_response_headers(&self, cookie: &mut Option<String>, response: &Response<'_>) -> Result<Action, HostError> {
        if let (Some(value), StickyConfig::Cookie(config)) = (cookie, &self.config.sticky) {
            let mut cookie = SetCookie::new(&config.name, value).path(&config.path);
            if let Some(ttl) = self.ttl {
                cookie = cookie.max_age(ttl);
            }
            if !config.secure {
                cookie = cookie.allow_http();
            }
            response.set_cookie(&cookie)?;
        }
        Ok(Action::Continue)
    }
}

impl StickyCanary {
    fn choose(&self, cookie: &mut Option<String>, request: &Request<'_>) -> Result<Variant, HostError> {
        if !self.config.enabled {
            return Ok(Variant::Stable);
        }
        for force in &self.config.force {
            if request.header(&force.header)? == Some(force.value.as_bytes()) {
                self.forced.increment()?;
                return Ok(force.variant);
            }
        }
        let share = self.share.at((portolan_sdk::now()? / 1_000_000_000) as i64);
        // Nobody needs to be known, and none a cookie, where all get the same.
        if share == 0 {
            return Ok(Variant::Stable);
        }
        if share == ALL {
            return Ok(Variant::Canary);
        }
        match self.user(request)? {
            User::Known(place, made) => {
                *cookie = made;
                Ok(if place < share { Variant::Canary } else { Variant::Stable })
            }
            User::Unknown => Ok(Variant::Stable),
        }
    }

    fn user(&self, request: &Request<'_>) -> Result<User, HostError> {
        Ok(match &self.config.sticky {
            StickyConfig::Cookie(config) => {
                if let Some(id) = Head::cookie(request, &config.name)?.and_then(|value| self.identity.id(value)) {
                    return Ok(User::Known(self.identity.place(id), None));
                }
                let value = self.identity.issue();
                match self.identity.id(value.as_bytes()) {
                    Some(id) => User::Known(self.identity.place(id), Some(value)),
                    None => User::Unknown,
                }
            }
            StickyConfig::Header(name) => match request.header(name)?.filter(|value| !value.is_empty()) {
                Some(value) => User::Known(self.identity.place(value), None),
                None => User::Unknown,
            },
            StickyConfig::RemoteAddress(config) => match config.trusted_hops.of(request)? {
                Some(address) => User::Known(self.identity.place(&address::network(address, 32, 64)), None),
                None => User::Unknown,
            },
        })
    }

    /// Says which variant it is. The route is chosen anew only when it can be another one for it.
    fn mark(&self, variant: Variant, request: &Request<'_>) -> Result<(), HostError> {
        let header = &self.config.header;
        let (name, value) = match variant {
            Variant::Canary => ("canary", Some(&header.canary)),
            Variant::Stable => ("stable", header.stable.as_ref()),
        };
        request.set_property(VARIANT_PROPERTY, name.as_bytes())?;
        match value {
            Some(value) => request.set_header(&header.name, value.as_bytes())?,
            None if request.header(&header.name)?.is_some() => request.remove_header(&header.name)?,
            None => return Ok(()),
        }
        request.clear_route_cache()
    }
}

portolan_sdk::filter! { StickyCanary: schema, stream, on_request_headers, on_response_headers }

#[cfg(test)]
mod tests;
