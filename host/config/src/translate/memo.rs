//! [`Memo`]: what the last translation made of each VirtualService, so that the next one makes only what has changed.
//!
//! What a VirtualService becomes depends on itself and on all that is no VirtualService. So a memo counts as long as every
//! other object is the same, and of each VirtualService as long as that is the same. A VirtualService that delegates depends
//! on others and is made anew each time.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use portolan_model::{Cluster, Model, Route, RouteId};

use super::TranslateOptions;
use super::actions::Reference;
use super::findings::{ByObject, Finding};
use super::routes::Draft;
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
    /// Names of the last translation's clusters by number.
    clusters: Vec<String>,
    /// By the address of the object.
    services: HashMap<usize, Known>,
}

/// What is known of one VirtualService.
struct Known {
    /// Kept, so that no other object gets its address.
    object: ActiveObject,
    /// None of one that is not served, or that delegates.
    served: Option<Arc<Served>>,
    findings: Arc<[Finding]>,
}

/// What has become of a VirtualService.
pub(super) struct Served {
    /// In the order in which they were made, which the other objects decide.
    pub(super) routes: Box<[Made]>,
    pub(super) lists: Arc<[List]>,
    /// The clusters that it needs, each once.
    pub(super) references: Arc<[Arc<Reference>]>,
}

/// A route.
pub(super) struct Made {
    pub(super) route: Arc<Route>,
    pub(super) is_catch_all: bool,
}

/// The routes for a Gateway's port, by their places in [`Served::routes`].
pub(super) struct List {
    pub(super) gateway: Box<str>,
    pub(super) port: u16,
    pub(super) routes: Box<[usize]>,
}

/// What a translation leaves to the next one.
pub(super) struct Lesson {
    /// By address of the VirtualService.
    pub(super) drafts: Vec<(usize, Draft)>,
    /// By route.
    pub(super) catch_all: Vec<bool>,
    pub(super) findings: ByObject,
    /// Routes of the last translation are others now, for clusters have other numbers.
    pub(super) is_renumbered: bool,
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

    /// What has become of this VirtualService.
    pub(super) fn served(&self, object: &Object<VirtualService>) -> Option<Arc<Served>> {
        self.services.get(&address(object))?.served.clone()
    }

    /// What was found about this VirtualService.
    pub(super) fn findings(&self, object: &Object<VirtualService>) -> Option<Arc<[Finding]>> {
        let known = &self.services.get(&address(object))?.findings;
        (known.is_empty() || !self.has_moved).then(|| known.clone())
    }

    /// Whether all clusters of these names had the same numbers in the last translation.
    pub(super) fn knows_clusters(&self, clusters: &[Cluster]) -> bool {
        clusters.iter().map(|cluster| &cluster.name).eq(&self.clusters)
    }

    /// Takes in what a translation has made.
    pub(super) fn learn(&mut self, resources: &ResourceSet, model: &Model, lesson: Lesson) {
        let Lesson { drafts, catch_all, findings, is_renumbered } = lesson;
        let mut services: HashMap<usize, Known> = HashMap::with_capacity(findings.len());
        let objects = resources.active.iter().filter(|(id, _)| id.kind == Kind::VirtualService);
        for ((_, kept), (service, findings)) in objects.zip(findings) {
            debug_assert_eq!(pointer(&kept.object).addr(), service, "findings come in the order of the objects");
            services.insert(service, Known { object: kept.object.clone(), served: None, findings });
        }
        for (service, draft) in drafts {
            let Some(known) = services.get_mut(&service) else { continue };
            known.served = match draft.known {
                Some(same) if !is_renumbered && draft.lists.is_empty() => Some(same),
                _ => draft.served(&model.routes, &catch_all).filter(|_| !known.delegates()).map(Arc::new),
            };
        }
        self.services = services;
        if is_renumbered {
            self.clusters = model.clusters.iter().map(|cluster| cluster.name.clone()).collect();
        }
    }
}

impl Known {
    /// Whether other VirtualServices have a part in its routes.
    fn delegates(&self) -> bool {
        let object = self.object.downcast_ref::<Object<VirtualService>>();
        object.is_none_or(|object| object.spec.http.iter().any(|rule| rule.delegate.is_some()))
    }
}

impl Draft {
    /// None when some route has no number.
    fn served(self, routes: &[Arc<Route>], catch_all: &[bool]) -> Option<Served> {
        let made = |id: Option<RouteId>| {
            let at = id? as usize;
            Some(Made { route: routes.get(at)?.clone(), is_catch_all: *catch_all.get(at)? })
        };
        let routes = self.ids.into_iter().map(made).collect::<Option<_>>()?;
        if let Some(known) = self.known {
            // The same Gateways ask for the same lists: if not, it is no longer known.
            let is_same = self.lists.is_empty();
            let (lists, references) = (known.lists.clone(), known.references.clone());
            return is_same.then_some(Served { routes, lists, references });
        }
        let mut told = HashSet::new();
        let references = self.references.into_iter().filter(|reference| told.insert(Arc::as_ptr(reference)));
        Some(Served { routes, lists: self.lists.into(), references: references.collect() })
    }
}

fn of_others(resources: &ResourceSet) -> impl Iterator<Item = &ActiveObject> {
    let others = resources.active.iter().filter(|(id, _)| id.kind != Kind::VirtualService);
    others.map(|(_, kept)| &kept.object)
}

fn pointer(object: &ActiveObject) -> *const () {
    Arc::as_ptr(object).cast()
}
