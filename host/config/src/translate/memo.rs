//! [`Memo`]: what the last translation made of each VirtualService, so that the next one makes only what has changed.
//!
//! What a VirtualService becomes depends on itself and on all that is no VirtualService. So a memo counts as long as every
//! other object is the same, and of each VirtualService as long as that is the same. A VirtualService that delegates depends
//! on others and is made anew each time.

use std::collections::HashMap;
use std::sync::Arc;

use portolan_model::{Route, RouteId};

use super::TranslateOptions;
use super::actions::Reference;
use super::findings::{ByObject, Finding};
use super::routes::Part;
use crate::ResourceSet;
use crate::kind::Kind;
use crate::object::Object;
use crate::resource_set::ActiveObject;
use crate::resources::istio::VirtualService;

/// What one translation leaves to the next.
#[derive(Default)]
pub(super) struct Memo {
    /// [`ResourceSet::lines`] of the last translation.
    lines: u64,
    /// Something has moved within its file since: findings, which name lines, are to be made anew.
    has_moved: bool,
    /// Every object that is no VirtualService.
    others: Vec<ActiveObject>,
    options: TranslateOptions,
    /// By the address of the object.
    services: HashMap<usize, Known>,
}

/// What is known of one VirtualService.
struct Known {
    /// Kept, so that no other object gets its address.
    _object: ActiveObject,
    /// Its routes in the order in which they were made, which the other objects decide.
    made: Vec<(Part, Made)>,
    findings: Arc<[Finding]>,
}

/// A route, and what its making has shown.
#[derive(Clone)]
pub(super) struct Made {
    pub(super) route: Arc<Route>,
    pub(super) is_catch_all: bool,
    /// The clusters that it needs.
    pub(super) references: Arc<[Reference]>,
}

/// A route of a translation that is going on: of which VirtualService, which part, its number.
pub(super) struct Record {
    pub(super) service: usize,
    pub(super) part: Part,
    pub(super) id: RouteId,
    pub(super) is_catch_all: bool,
    pub(super) references: Arc<[Reference]>,
}

/// By its address an object is known as long as the memo keeps it.
pub(super) fn address(object: &Object<VirtualService>) -> usize {
    std::ptr::from_ref(object).addr()
}

impl Memo {
    /// Forgets everything unless all other objects, and the options, are the same.
    pub(super) fn check(&mut self, resources: &ResourceSet, options: &TranslateOptions) {
        let others = || of_others(resources);
        let same = |(a, b): (&ActiveObject, &ActiveObject)| pointer(a) == pointer(b);
        let are_same = others().count() == self.others.len() && others().zip(&self.others).all(same);
        if !are_same || self.options != *options {
            *self = Self { others: others().cloned().collect(), options: options.clone(), ..Self::default() };
        }
        self.has_moved = self.lines != resources.lines;
        self.lines = resources.lines;
    }

    /// The route that was made as the `nth` of this VirtualService, if it is this part.
    pub(super) fn route(&self, object: &Object<VirtualService>, nth: usize, part: Part) -> Option<&Made> {
        let (known, made) = self.services.get(&address(object))?.made.get(nth)?;
        (*known == part).then_some(made)
    }

    /// What was found about this VirtualService.
    pub(super) fn findings(&self, object: &Object<VirtualService>) -> Option<Arc<[Finding]>> {
        let known = &self.services.get(&address(object))?.findings;
        (known.is_empty() || !self.has_moved).then(|| known.clone())
    }

    /// Takes in what a translation has made, with its routes as they are in the model.
    pub(super) fn learn(
        &mut self,
        resources: &ResourceSet,
        records: Vec<Record>,
        routes: &[Arc<Route>],
        findings: ByObject,
    ) {
        let mut services: HashMap<usize, Known> = HashMap::with_capacity(findings.len());
        let objects = resources.active.iter().filter(|(id, _)| id.kind == Kind::VirtualService);
        for ((_, kept), (service, findings)) in objects.zip(findings) {
            debug_assert_eq!(pointer(&kept.object).addr(), service, "findings come in the order of the objects");
            services.insert(service, Known { _object: kept.object.clone(), made: Vec::new(), findings });
        }
        for Record { service, part, id, is_catch_all, references } in records {
            if let (Some(known), Some(route)) = (services.get_mut(&service), routes.get(id as usize)) {
                known.made.push((part, Made { route: route.clone(), is_catch_all, references }));
            }
        }
        self.services = services;
    }
}

fn of_others(resources: &ResourceSet) -> impl Iterator<Item = &ActiveObject> {
    let others = resources.active.iter().filter(|(id, _)| id.kind != Kind::VirtualService);
    others.map(|(_, kept)| &kept.object)
}

fn pointer(object: &ActiveObject) -> *const () {
    Arc::as_ptr(object).cast()
}
