//! Floor 0: containers that know nothing of networks.

pub(crate) mod arena;
pub(crate) mod buffer;
pub(crate) mod list;
pub(crate) mod machine;
pub(crate) mod moment;
pub(crate) mod wheel;
pub(crate) mod work;
