//! What `#[qapi(…)]` says, and what the Rust types tell.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, Expr, ExprLit, GenericArgument, Ident, Lit, LitStr, Meta, PathArguments, Type};

/// The keys of `#[qapi(…)]`.
#[derive(Default)]
pub struct Qapi {
    pub name: Option<String>,
    pub tag: Option<String>,
    pub tag_type: Option<String>,
    pub event: Option<String>,
    pub features: Vec<LitStr>,
    pub flatten: bool,
    pub alternate: bool,
    pub rest: bool,
}

impl Qapi {
    pub fn parse(attributes: &[Attribute]) -> syn::Result<Self> {
        let mut found = Self::default();
        for attribute in attributes.iter().filter(|a| a.path().is_ident("qapi")) {
            attribute.parse_nested_meta(|meta| {
                let key = meta.path.get_ident().map(Ident::to_string).unwrap_or_default();
                let text = || Ok::<_, syn::Error>(Some(meta.value()?.parse::<LitStr>()?.value()));
                match key.as_str() {
                    "name" => found.name = text()?,
                    "tag" => found.tag = text()?,
                    "tag_type" => found.tag_type = text()?,
                    "event" => found.event = text()?,
                    "features" => found.features = features(meta.input)?,
                    "flatten" => found.flatten = true,
                    "alternate" => found.alternate = true,
                    "rest" => found.rest = true,
                    _ => return Err(meta.error("unknown key")),
                }
                Ok(())
            })?;
        }
        Ok(found)
    }

    /// The name given, or the Rust one in QAPI's spelling.
    pub fn name_or(&self, ident: &Ident) -> String {
        self.name.clone().unwrap_or_else(|| ident.to_string().trim_start_matches("r#").replace('_', "-"))
    }
}

/// `("a", "b")`
pub fn features(input: syn::parse::ParseStream) -> syn::Result<Vec<LitStr>> {
    let list;
    syn::parenthesized!(list in input);
    let names = list.parse_terminated(<LitStr as syn::parse::Parse>::parse, syn::Token![,])?;
    Ok(names.into_iter().collect())
}

/// The text of the doc comment.
pub fn doc(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(meta) if meta.path.is_ident("doc") => match &meta.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value().trim().to_owned()),
            _ => None,
        },
        _ => None,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The type argument of `wrapper<T>`.
pub fn argument_of<'a>(wrapper: &str, of: &'a Type) -> Option<&'a Type> {
    let Type::Path(path) = of else { return None };
    let last = path.path.segments.last().filter(|segment| segment.ident == wrapper)?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(inner) => Some(inner),
        _ => None,
    })
}

/// A member of an object: a field of a struct, or a parameter of a command.
pub struct Member {
    pub ident: Ident,
    pub qapi: Qapi,
    /// As written.
    pub whole: Type,
}

impl Member {
    fn name(&self) -> String {
        self.qapi.name_or(&self.ident)
    }

    /// Code that adds it to `shape`.
    pub fn describe(&self) -> TokenStream {
        let (name, whole, features) = (self.name(), &self.whole, &self.qapi.features);
        if self.qapi.rest {
            return quote! {};
        }
        if self.qapi.flatten {
            return quote! { shape.merge(<#whole as ::qapi::QapiObject>::shape(schema)); };
        }
        let (of, optional) = match argument_of("Option", whole) {
            Some(inner) => (inner, true),
            None => (whole, false),
        };
        quote! { shape.members.push(schema.member::<#of>(#name, #optional, &[#(#features),*])); }
    }

    /// An expression that takes it out of `map`.
    pub fn take(&self) -> TokenStream {
        let (name, whole) = (self.name(), &self.whole);
        if self.qapi.rest {
            quote! { ::std::mem::take(map) }
        } else if self.qapi.flatten {
            quote! { <#whole as ::qapi::QapiObject>::take(map, at)? }
        } else if let Some(inner) = argument_of("Option", whole) {
            quote! { ::qapi::private::take_optional::<#inner>(map, #name, at)? }
        } else {
            quote! { ::qapi::private::take_member::<#whole>(map, #name, at)? }
        }
    }

    /// Code that puts the field of `self` into `map`.
    pub fn put(&self) -> TokenStream {
        let (name, ident, whole) = (self.name(), &self.ident, &self.whole);
        if self.qapi.flatten {
            quote! { ::qapi::QapiObject::put(&self.#ident, map); }
        } else if argument_of("Option", whole).is_some() {
            quote! {
                if let Some(value) = &self.#ident {
                    map.insert(#name.to_owned(), ::qapi::QapiType::to_json(value));
                }
            }
        } else {
            quote! { map.insert(#name.to_owned(), ::qapi::QapiType::to_json(&self.#ident)); }
        }
    }
}
