//! `#[derive(Object)]`: makes a struct a QOM type. See the crate `qom` for what it means.
//!
//! On the struct: `#[object(name = "isa-debugcon", parent = IsaDevice)]`, and where needed `abstract`,
//! `interfaces(dyn A, dyn B)`, `class_init = function` (`fn(&mut Class)`, run last),
//! `instance_init = function` and `instance_post_init = function` (`fn(&Self)`).
//!
//! On a field of type `Property<T>`: `#[property]`, with `default = value`, `name = "other-name"`, `live`
//! (can be set after realize). Its doc comment is the property's description. Other fields start as
//! their `Default`.
#![forbid(unsafe_code)]

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, Data, DeriveInput, Expr, Field, Fields, Ident, LitStr, Path, Type, TypeTraitObject};

/// Derives `qom::Object` and `qom::ObjectType`, and `Deref` to the parent.
#[proc_macro_derive(Object, attributes(object, property))]
pub fn derive_object(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = syn::parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

struct ObjectAttr {
    name: LitStr,
    parent: Type,
    abstract_: bool,
    interfaces: Vec<TypeTraitObject>,
    class_init: Option<Path>,
    instance_init: Option<Path>,
    instance_post_init: Option<Path>,
}

fn object_attr(input: &DeriveInput) -> syn::Result<ObjectAttr> {
    let (mut name, mut parent, mut abstract_, mut interfaces) = (None, None, false, Vec::new());
    let (mut class_init, mut instance_init, mut instance_post_init) = (None, None, None);
    for attr in input.attrs.iter().filter(|a| a.path().is_ident("object")) {
        attr.parse_nested_meta(|meta| {
            let key = meta.path.get_ident().map(Ident::to_string).unwrap_or_default();
            match key.as_str() {
                "name" => name = Some(meta.value()?.parse()?),
                "parent" => parent = Some(meta.value()?.parse()?),
                "abstract" => abstract_ = true,
                "class_init" => class_init = Some(meta.value()?.parse()?),
                "instance_init" => instance_init = Some(meta.value()?.parse()?),
                "instance_post_init" => instance_post_init = Some(meta.value()?.parse()?),
                "interfaces" => {
                    let list;
                    syn::parenthesized!(list in meta.input);
                    let parsed =
                        list.parse_terminated(<TypeTraitObject as syn::parse::Parse>::parse, syn::Token![,])?;
                    interfaces.extend(parsed);
                }
                _ => return Err(meta.error("unknown key")),
            }
            Ok(())
        })?;
    }
    let missing = |what| syn::Error::new_spanned(&input.ident, format!("#[object({what} = …)] is missing"));
    Ok(ObjectAttr {
        name: name.ok_or_else(|| missing("name"))?,
        parent: parent.ok_or_else(|| missing("parent"))?,
        abstract_,
        interfaces,
        class_init,
        instance_init,
        instance_post_init,
    })
}

struct PropertyAttr {
    name: String,
    default: Option<Expr>,
    live: bool,
    description: String,
}

fn property_attr(field: &Field, ident: &Ident) -> syn::Result<Option<PropertyAttr>> {
    let Some(attr) = field.attrs.iter().find(|a| a.path().is_ident("property")) else { return Ok(None) };
    let mut property = PropertyAttr {
        name: ident.to_string().trim_start_matches("r#").replace('_', "-"),
        default: None,
        live: false,
        description: doc_text(&field.attrs),
    };
    if matches!(attr.meta, syn::Meta::Path(_)) {
        return Ok(Some(property));
    }
    attr.parse_nested_meta(|meta| {
        if meta.path.is_ident("default") {
            property.default = Some(meta.value()?.parse()?);
        } else if meta.path.is_ident("name") {
            property.name = meta.value()?.parse::<LitStr>()?.value();
        } else if meta.path.is_ident("live") {
            property.live = true;
        } else {
            return Err(meta.error("unknown key"));
        }
        Ok(())
    })?;
    Ok(Some(property))
}

fn doc_text(attrs: &[Attribute]) -> String {
    let lines = attrs.iter().filter(|a| a.path().is_ident("doc")).filter_map(|a| match &a.meta {
        syn::Meta::NameValue(syn::MetaNameValue {
            value: Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(s), .. }),
            ..
        }) => Some(s.value().trim().to_owned()),
        _ => None,
    });
    lines.collect::<Vec<_>>().join(" ")
}

fn expand(input: &DeriveInput) -> syn::Result<TokenStream> {
    let attr = object_attr(input)?;
    let ty = &input.ident;
    let Data::Struct(data) = &input.data else {
        return Err(syn::Error::new_spanned(ty, "a QOM type is a struct"));
    };
    let Fields::Named(fields) = &data.fields else {
        return Err(syn::Error::new_spanned(ty, "a QOM type has named fields"));
    };
    let (mut inits, mut properties) = (Vec::new(), Vec::new());
    for field in &fields.named {
        let Some(ident) = &field.ident else { continue };
        let parent = &attr.parent;
        if ident == "parent" {
            inits.push(quote! { parent: <#parent as ::qom::ObjectType>::construct() });
        } else if let Some(property) = property_attr(field, ident)? {
            let default = match &property.default {
                Some(default @ Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(_), .. })) => {
                    quote! { #default.into() }
                }
                Some(default) => quote! { #default },
                None => quote! { ::std::default::Default::default() },
            };
            inits.push(quote! { #ident: ::qom::Property::new(#default) });
            properties.push(property_tokens(ty, ident, &property));
        } else {
            inits.push(quote! { #ident: ::std::default::Default::default() });
        }
    }
    Ok(impls(ty, &attr, &inits, &properties))
}

fn property_tokens(ty: &Ident, ident: &Ident, property: &PropertyAttr) -> TokenStream {
    let PropertyAttr { name, live, description, .. } = property;
    quote! {
        class.add_property(::qom::property::field::<#ty, _>(
            #name, #description, #live, |object: &#ty| &object.#ident, &defaults.#ident,
        ));
    }
}

fn impls(ty: &Ident, attr: &ObjectAttr, inits: &[TokenStream], properties: &[TokenStream]) -> TokenStream {
    let ObjectAttr { name, parent, abstract_, interfaces, .. } = attr;
    // An abstract type fills its tables by hand: it implements none of what it asks of its children.
    let tables = (!abstract_).then(|| quote! { <#parent as ::qom::ClassInit<#ty>>::class_init(class); });
    let defaults =
        (!properties.is_empty()).then(|| quote! { let defaults = <#ty as ::qom::ObjectType>::construct(); });
    let class_init = attr.class_init.iter().map(|f| quote! { #f(class); });
    let hook = |f: &Path| quote! { |object| if let Some(o) = object.cast::<#ty>() { #f(o) } };
    let instance_init = attr.instance_init.iter().map(|f| {
        let hook = hook(f);
        quote! { class.set_instance_init(#hook); }
    });
    let instance_post_init = attr.instance_post_init.iter().map(|f| {
        let hook = hook(f);
        quote! { class.set_instance_post_init(#hook); }
    });
    quote! {
        impl ::qom::Object for #ty {
            fn base(&self) -> &::qom::ObjectBase {
                ::qom::Object::base(&self.parent)
            }
            fn part(&self, id: ::std::any::TypeId) -> Option<&dyn ::std::any::Any> {
                if id == ::std::any::TypeId::of::<#ty>() {
                    return Some(self);
                }
                ::qom::Object::part(&self.parent, id)
            }
        }

        impl ::std::ops::Deref for #ty {
            type Target = #parent;
            fn deref(&self) -> &#parent {
                &self.parent
            }
        }

        impl ::qom::ObjectType for #ty {
            const TYPE_NAME: &'static str = #name;
            fn construct() -> Self {
                #ty { #(#inits),* }
            }
            fn type_info() -> ::qom::TypeInfo {
                fn init_class_of_type(class: &mut ::qom::Class) {
                    #tables
                    #defaults
                    #(#properties)*
                    #(class.add_interface::<#interfaces>(
                        |object| ::qom::downcast::<#ty>(object).map(|o| o as ::std::sync::Arc<#interfaces>),
                    );)*
                    #(#instance_init)*
                    #(#instance_post_init)*
                    #(#class_init)*
                }
                ::qom::TypeInfo::of::<#ty>(Some(<#parent as ::qom::ObjectType>::TYPE_NAME), #abstract_, init_class_of_type)
            }
        }
    }
}
