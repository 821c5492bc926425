//! What tests of filters and tests of routes share: how their files are read, how values are compared, how results are told.

pub(crate) mod comparing;
pub(crate) mod files;
pub(crate) mod forms;
pub(crate) mod junit;
pub(crate) mod matches;
pub(crate) mod report;
pub(crate) mod shown;

pub(crate) use comparing::{Comparing, Difference, Lines, value};
pub(crate) use forms::{ContentMatch, TextMatch};
pub(crate) use report::Ran;
